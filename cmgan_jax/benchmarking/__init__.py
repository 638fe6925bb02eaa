"""The cost of a training step: operation counts, measured device limits and timings, with tables and plots of them."""
