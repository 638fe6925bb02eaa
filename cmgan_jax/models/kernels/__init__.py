"""Kernels for NVIDIA GPUs, in Triton: what XLA cannot do without a detour through memory."""

from functools import cache
from importlib.util import find_spec

import jax

CAPABILITY = 8.0
"""Compute capability that Triton's products of bfloat16 and TF32 need (A100 and later)."""


@cache
def available() -> bool:
    """Whether programs are made for a GPU that can run them, with `jax_triton` to launch them."""
    if jax.default_backend() != "gpu" or find_spec("jax_triton") is None:
        return False
    device = jax.local_devices()[0]
    return "nvidia" in device.device_kind.lower() and float(getattr(device, "compute_capability", 0)) >= CAPABILITY
