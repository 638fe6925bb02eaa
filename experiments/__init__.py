"""Entry points, each started as `python -m experiments.NAME`."""

import os
import sys

from cmgan_jax import streams

# Before anything else is imported, since that may open files.
streams.open_missing()
# XLA reports as errors what is none for a user, as a slow compilation, of which our own lines tell. What is an error
# comes as an exception, too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if sys.argv[:1] == ["-m"]:
    from cmgan_jax.cli._cli import end_failed_imports

    end_failed_imports()
