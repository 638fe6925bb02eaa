"""Diagnose a training: `python -m experiments.diagnose` is the same program as `cmgan diagnose`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.diagnose import main

if __name__ == "__main__":
    run(main)
