"""One command that makes a seldom half-hour on an NVIDIA GPU count: see `experiments/gpu_check/__main__.py`."""
