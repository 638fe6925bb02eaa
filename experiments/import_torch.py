"""Make a run folder of weights in files: `python -m experiments.import_torch` is the same program as `cmgan import`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.import_torch import main

if __name__ == "__main__":
    run(main, answers=False)
