"""Entry points, each started as `python -m experiments.NAME`."""

import sys

from cmgan_jax import streams

# Before anything else is imported, since that may open files.
streams.open_missing()
if sys.argv[:1] == ["-m"]:
    from experiments._cli import end_failed_imports

    end_failed_imports()
