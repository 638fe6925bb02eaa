"""Show where a model comes from: `python -m experiments.inspect` is the same program as `cmgan inspect`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.inspect import main

if __name__ == "__main__":
    run(main)
