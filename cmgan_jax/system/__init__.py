"""Operating-system utilities: atomic files, standard streams, signals, processor cores."""
