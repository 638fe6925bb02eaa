"""Kernels for NVIDIA GPUs, in Triton: what XLA cannot do without a detour through memory.

Each file has a kernel and the function with its gradient that models call in place of their own, where
`backends.uses_kernels` says so. They are imported where they are called, for Triton is not installed everywhere.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import jax

CAPABILITY = 8.0
"""Compute capability that products of bfloat16 and TF32 need (A100 and later)."""


@cache
def available() -> bool:
    """Whether JAX computes on a GPU that can run kernels, with `jax_triton` to launch them."""
    return jax.default_backend() == "gpu" and find_spec("jax_triton") is not None and _fits(jax.local_devices()[0])


def lacking() -> str | None:
    """What is said where there is such a GPU and nothing to launch kernels with; None: all is well."""
    if jax.default_backend() != "gpu" or available() or not _fits(jax.local_devices()[0]):
        return None
    return "jax_triton is not installed: without its kernels a step takes about twice as long (README.md has the line)"


def _fits(device: Any) -> bool:
    return "nvidia" in device.device_kind.lower() and float(device.compute_capability) >= CAPABILITY
