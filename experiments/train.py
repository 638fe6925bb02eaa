"""Train a CMGAN: `python -m experiments.train` is the same program as `cmgan train`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.train import main

if __name__ == "__main__":
    run(main, answers=False)
