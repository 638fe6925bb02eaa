"""Triton kernels for NVIDIA GPUs, which keep intermediates on chip that XLA would write to memory.

Each module has the kernels of one operation and a differentiable function that models call instead of XLA's operations
where `backends.uses_kernels` allows it. The modules are imported at the point of use, since Triton may not be
installed.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import jax

CAPABILITY = 8.0
"""Minimum compute capability, for products in bfloat16 and TF32 (A100 and later)."""


@cache
def available() -> bool:
    """Whether JAX computes on a GPU that can run the kernels, and `jax_triton` is installed to launch them."""
    return jax.default_backend() == "gpu" and find_spec("jax_triton") is not None and _fits(jax.local_devices()[0])


def lacking() -> str | None:
    """Message for the user if the GPU could run the kernels but `jax_triton` is missing; otherwise None."""
    if jax.default_backend() != "gpu" or available() or not _fits(jax.local_devices()[0]):
        return None
    return "jax_triton is not installed: without its kernels a step takes about twice as long (README.md has the line)"


def _fits(device: Any) -> bool:
    return "nvidia" in device.device_kind.lower() and float(device.compute_capability) >= CAPABILITY
