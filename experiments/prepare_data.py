"""Prepare training data: `python -m experiments.prepare_data` is the same program as `cmgan prepare`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.prepare_data import main

if __name__ == "__main__":
    run(main, answers=False)
