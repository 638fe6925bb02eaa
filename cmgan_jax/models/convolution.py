"""Convolution over (time, frequency), channels last, with a weight gradient that is faster than XLA's own."""

from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import Backend
from cmgan_jax.models import backends

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zero padding (before, after) in time and in frequency."""


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def convolve(
    parts: tuple[Array, ...],
    kernel: Array,
    stride: int,
    padding: Padding,
    dilation: int,
    backend: Backend = "auto",
) -> Array:
    """Convolve over (time, frequency); the weight gradient is one matrix product per part of the input, or a kernel.

    XLA's own weight gradient takes four to eight times as long on a CPU, and up to forty times on a GPU
    (results/h100.md). The input comes in parts because concatenating them takes longer than adding up their results.

    Args:
        parts: [B, T, F, C] each; together they stand for their concatenation along the channels.
        kernel: [time taps, frequency taps, all channels, features].
        stride: step in frequency.
        padding: ((before, after) in time, (before, after) in frequency).
        dilation: step in time between taps.
        backend: see `GeneratorConfig`.

    Returns:
        [B, T', F', features].
    """
    kernels = jnp.split(kernel, _ends(parts), axis=2)
    convolved = [_plain_convolution(x, k, stride, padding, dilation) for x, k in zip(parts, kernels, strict=True)]
    if len(convolved) == 1:
        return convolved[0]
    return reduce(jnp.add, (one.astype(jnp.float32) for one in convolved)).astype(kernel.dtype)


def _ends(parts: tuple[Array, ...]) -> list[int]:
    """Channel indices at which the next part begins."""
    return np.cumsum([part.shape[-1] for part in parts])[:-1].tolist()


def _plain_convolution(x: Array, kernel: Array, stride: int, padding: Padding, dilation: int) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, stride), padding, rhs_dilation=(dilation, 1), dimension_numbers=layout
    )


def _convolve_forward(parts: tuple[Array, ...], kernel: Array, *how: Any) -> tuple[Array, Any]:
    return convolve(parts, kernel, *how), (parts, kernel)


def _convolve_backward(
    stride: int, padding: Padding, dilation: int, backend: Backend, residual: Any, gradient: Array
) -> tuple[tuple[Array, ...], Array]:
    parts, kernel = residual
    whole = jax.ShapeDtypeStruct((*parts[0].shape[:3], kernel.shape[2]), kernel.dtype)
    (d_x,) = jax.linear_transpose(lambda x: _plain_convolution(x, kernel, stride, padding, dilation), whole)(gradient)
    d_parts = tuple(jnp.split(d_x, _ends(parts), axis=-1))
    return d_parts, _of_kernel(parts, gradient, kernel, stride, padding, dilation, backend)


def _of_kernel(
    parts: tuple[Array, ...],
    gradient: Array,
    kernel: Array,
    stride: int,
    padding: Padding,
    dilation: int,
    backend: Backend,
) -> Array:
    """Compute the kernel's gradient."""
    times, bins, channels, features = kernel.shape
    (early, _), (low, _) = padding
    if backends.uses_kernels(backend):
        from cmgan_jax.models.kernels.convolution import kernel_gradient
        from cmgan_jax.models.kernels.launch import fits

        if fits(features, *(x.shape[-1] for x in parts)):
            each = [kernel_gradient(x, gradient, (times, bins), stride, (early, low), dilation) for x in parts]
            return jnp.concatenate(each, axis=2).astype(kernel.dtype)
    # Concatenate copies of the gradient shifted to each tap, rather than of x: there are fewer features than channels.
    # Position q of x meets tap (i, j) at output q + (early, low) - (i · dilation, j), at every `stride`-th bin.
    length, width = parts[0].shape[1:3]
    late = (dilation * (times - 1) - early, length + early - gradient.shape[1])
    high = (bins - 1 - low, width + low - (stride * (gradient.shape[2] - 1) + 1))
    zero = jnp.zeros((), gradient.dtype)
    spread = jax.lax.pad(gradient, zero, ((0, 0, 0), (*late, 0), (*high, stride - 1), (0, 0, 0)))
    taps = [
        spread[:, i * dilation : i * dilation + length, j : j + width]
        for i in reversed(range(times))
        for j in reversed(range(bins))
    ]
    wide = jnp.concatenate(taps, axis=-1).reshape(-1, times * bins * features)
    d_kernel = jnp.concatenate([x.reshape(-1, x.shape[-1]).T @ wide for x in parts])
    return d_kernel.reshape(channels, times, bins, features).transpose(1, 2, 0, 3)


convolve.defvjp(_convolve_forward, _convolve_backward)
