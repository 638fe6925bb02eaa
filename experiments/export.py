"""Write an enhancer as StableHLO: `python -m experiments.export` is the same as `cmgan export stablehlo`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.export import main

if __name__ == "__main__":
    run(main, answers=False)
