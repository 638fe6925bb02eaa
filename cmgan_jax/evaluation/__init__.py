"""Scores and the enhancement of whole files."""
