"""Measure how training scales with devices: `python -m experiments.scaling` is the same program as `cmgan scaling`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.scaling import main

if __name__ == "__main__":
    run(main)
