"""Enhance recordings: `python -m experiments.enhance` is the same program as `cmgan enhance`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.enhance import main

if __name__ == "__main__":
    run(main, answers=False)
