"""Score enhanced speech: `python -m experiments.evaluate` is the same program as `cmgan evaluate`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.evaluate import main

if __name__ == "__main__":
    run(main)
