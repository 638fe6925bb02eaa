"""Make a run folder from files of weights: `python -m experiments.import_torch` is the same as `cmgan import`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.import_torch import main

if __name__ == "__main__":
    run(main, answers=False)
