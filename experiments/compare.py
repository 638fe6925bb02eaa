"""Compare ways of training: `python -m experiments.compare` is the same program as `cmgan compare`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.compare import main

if __name__ == "__main__":
    run(main, answers=False)
