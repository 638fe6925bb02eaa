"""Evaluation: scores of enhanced files, and their summaries."""
