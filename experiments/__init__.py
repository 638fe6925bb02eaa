"""The commands as modules, started by `python -m experiments.NAME` in a checkout, and development tools."""

import sys

from cmgan_jax.cli._cli import begin

begin(hook=sys.argv[:1] == ["-m"])
