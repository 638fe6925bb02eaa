"""The commands as modules, each started as `python -m experiments.NAME` in a checkout, and tools of development."""

import sys

from cmgan_jax.cli._cli import begin

begin(hook=sys.argv[:1] == ["-m"])
