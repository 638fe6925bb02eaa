"""Runs on disk: folder layout, checkpoints and records."""
