"""Diagnosis of a training from its records: findings in words, for our runs and published logs. It imports no JAX."""
