"""Kernels for NVIDIA GPUs, in Triton: what XLA cannot do without a detour through memory.

Each file has a kernel and the function with its gradient that models call in place of their own. They are imported
where they are called, for Triton is not installed everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec

import jax

CAPABILITY = 8.0
"""Compute capability that products of bfloat16 and TF32 need (A100 and later)."""

_left_out: ContextVar[bool] = ContextVar("left_out", default=False)


def available() -> bool:
    """Whether programs are made for a GPU that can run kernels, with `jax_triton` to launch them."""
    return not _left_out.get() and _present()


@contextmanager
def left_out() -> Iterator[None]:
    """What is traced inside has no kernels: programs that are written to a file, for other machines."""
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


@cache
def _present() -> bool:
    if jax.default_backend() != "gpu" or find_spec("jax_triton") is None:
        return False
    device = jax.local_devices()[0]
    return "nvidia" in device.device_kind.lower() and float(device.compute_capability) >= CAPABILITY
