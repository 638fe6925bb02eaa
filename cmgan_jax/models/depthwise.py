"""Depthwise convolution along a sequence by shifted sums; XLA's own is some fifty times slower on a CPU."""

from typing import cast

import jax
import jax.numpy as jnp
from jax import Array

from cmgan_jax.config import Backend
from cmgan_jax.models import backends
from cmgan_jax.models.chunks import equal_parts

BLOCK = 32
"""Maximum number of positions per pass over the sums of the kernel's gradient; tuned on a CPU."""


def depthwise(x: Array, kernel: Array, backend: Backend = "auto") -> Array:
    """Depthwise convolution along the middle axis, zero-padded to the same length.

    Args:
        x: [sequences, N, C].
        kernel: float32[width, C], width odd.
        backend: see `GeneratorConfig`.

    Returns:
        [sequences, N, C]: sum over k of kernel[k] · x[n + k - width // 2].
    """
    if backends.uses_kernels(backend):
        from cmgan_jax.models.kernels.depthwise import depthwise as fused

        return cast(Array, fused(x, kernel))
    return cast(Array, _shifted(x, kernel))


@jax.custom_vjp
def _shifted(x: Array, kernel: Array) -> Array:
    """Compute the convolution as shifted multiply-adds."""
    width, positions = kernel.shape[0], x.shape[1]
    padded = _padded(x, width // 2, width // 2).astype(jnp.float32)
    taps = padded[:, :positions] * kernel[0]
    for k in range(1, width):
        taps += padded[:, k : k + positions] * kernel[k]
    return taps.astype(x.dtype)


def _padded(x: Array, before: int, after: int) -> Array:
    return jnp.pad(x, ((0, 0), (before, after), (0, 0)))


def _shifted_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _shifted(x, kernel), (x, kernel)


def _shifted_backward(residual: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = residual
    return _shifted(gradient, kernel[::-1]), _of_kernel(x, gradient, kernel.shape[0])


def _of_kernel(x: Array, gradient: Array, width: int) -> Array:
    """The kernel's gradient, float32[width, C]: sum over sequences and n of x[n + k - width // 2] · gradient[n].

    Each pass takes a block of positions and updates all taps. A separate sum for each tap would read the input `width`
    times.
    """
    sequences, positions, channels = x.shape
    count, size = equal_parts(positions, BLOCK)
    lacking = count * size - positions
    x, gradient = _padded(x, width // 2, width // 2 + lacking), _padded(gradient, 0, lacking)

    def add(block: Array, sums: Array) -> Array:
        seen = jax.lax.dynamic_slice_in_dim(x, block * size, size + width - 1, 1).astype(jnp.float32)
        d_block = jax.lax.dynamic_slice_in_dim(gradient, block * size, size, 1).astype(jnp.float32)
        return sums + sum(seen[:, n : n + width] * d_block[:, n : n + 1] for n in range(size))

    sums = jax.lax.fori_loop(0, count, add, jnp.zeros((sequences, width, channels)))
    return jnp.sum(sums, axis=0)


_shifted.defvjp(_shifted_forward, _shifted_backward)
