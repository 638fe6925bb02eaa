"""Comparison of ways of training, by runs that differ in nothing else."""
