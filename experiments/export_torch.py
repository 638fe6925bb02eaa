"""Write weights for PyTorch: `python -m experiments.export_torch` is the same as `cmgan export weights`."""

from cmgan_jax.cli._cli import run
from cmgan_jax.cli.export_torch import main

if __name__ == "__main__":
    run(main, answers=False)
