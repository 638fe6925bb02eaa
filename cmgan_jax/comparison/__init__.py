"""Which way of training is better, settled by runs that differ in nothing else."""
