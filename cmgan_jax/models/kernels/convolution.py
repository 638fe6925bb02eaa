"""The weight gradient of a convolution, in Triton: shifted positions are read where they lie, and never copied."""

import jax.numpy as jnp
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jax import Array

from cmgan_jax.models.kernels.launch import launch, precision

PROGRAMS = 22
"""That share each tap (H100, measured)."""
NARROW = {"BLOCK": 128, "num_warps": 8, "num_stages": 3}
"""Positions at once, warps and stages for numbers of two bytes (H100, measured)."""
WIDE = {"BLOCK": 64, "num_warps": 4, "num_stages": 2}
"""For numbers of four bytes: what fits the shared memory of smaller cards."""


@triton.jit
def d_kernel(
    x, gradient, outputs, times, bins, times_out, bins_out, early, low, stride, dilation,
    sums,
    CHANNELS: tl.constexpr, FEATURES: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid: (taps, programs); each takes every so many-th block of outputs.

    Args:
        x: [B, T, F, C].
        gradient: [B, T', F', features].
        outputs: B · T' · F'.
        times, bins, times_out, bins_out: T, F, T', F'.
        early, low: zeros before the first frame and below the first bin.
        stride: step in frequency.
        dilation: step in time between taps.
        sums: float32[programs, taps, C, features], each program's share.
        BINS: taps in frequency.
    """
    tap, program = tl.program_id(0), tl.program_id(1)
    channel, feature = tl.arange(0, CHANNELS)[None, :], tl.arange(0, FEATURES)[None, :]
    total = tl.zeros([CHANNELS, FEATURES], tl.float32)
    for first in range(program * BLOCK, outputs, tl.num_programs(1) * BLOCK):
        output = first + tl.arange(0, BLOCK)
        row, bin_out = output // bins_out, output % bins_out
        time = row % times_out + (tap // BINS) * dilation - early
        bin = bin_out * stride + tap % BINS - low
        there = (output < outputs) & (time >= 0) & (time < times) & (bin >= 0) & (bin < bins)
        position = ((row // times_out).to(tl.int64) * times + time) * bins + bin
        met = tl.load(x + position[:, None] * CHANNELS + channel, mask=there[:, None], other=0.0)
        place = output.to(tl.int64)[:, None] * FEATURES + feature
        gradients = tl.load(gradient + place, mask=there[:, None], other=0.0)
        total += tl.dot(tl.trans(met), gradients, input_precision=PRECISION)
    target = sums + (program * tl.num_programs(0) + tap) * CHANNELS * FEATURES
    tl.store(target + tl.arange(0, CHANNELS)[:, None] * FEATURES + feature, total)


def kernel_gradient(
    x: Array, gradient: Array, taps: tuple[int, int], stride: int, before: tuple[int, int], dilation: int
) -> Array:
    """The gradient of a convolution's kernel.

    Args:
        x: [B, T, F, C]; C and features as `launch.fits` has them.
        gradient: [B, T', F', features].
        taps: in time and in frequency.
        stride: step in frequency.
        before: zeros before the first frame and below the first bin.
        dilation: step in time between taps.

    Returns:
        float32[time taps, frequency taps, C, features].
    """
    _, times, bins, channels = x.shape
    batch, times_out, bins_out, features = gradient.shape
    outputs = batch * times_out * bins_out
    tuned = NARROW if x.dtype.itemsize == 2 else WIDE
    programs = min(PROGRAMS, triton.cdiv(outputs, tuned["BLOCK"]))
    (sums,) = launch(
        d_kernel,
        (taps[0] * taps[1], programs),
        (x, gradient, outputs, times, bins, times_out, bins_out, *before, stride, dilation),
        (((programs, taps[0] * taps[1], channels, features), jnp.float32),),
        CHANNELS=channels,
        FEATURES=features,
        BINS=taps[1],
        PRECISION=precision(x.dtype),
        **tuned,
    )
    return jnp.sum(sums, axis=0).reshape(*taps, channels, features)
