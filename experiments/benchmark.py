"""Measure what a training step costs: `python -m experiments.benchmark` is the same program as `cmgan benchmark`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.benchmark import main

if __name__ == "__main__":
    run(main)
