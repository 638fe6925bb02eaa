"""The published PyTorch checkpoints, read and written without PyTorch."""
