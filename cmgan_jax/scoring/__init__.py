"""PESQ in worker processes, for training targets and for evaluation."""
