"""The weight gradient of a convolution in Triton: shifted inputs are read in place instead of being copied."""

import jax.numpy as jnp
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jax import Array

from cmgan_jax.models.kernels.launch import launch, precision

PROGRAMS = 22
"""Maximum number of programs that share the sum of one tap; tuned on an H100."""
NARROW = {"BLOCK": 128, "num_warps": 8, "num_stages": 3}
"""Positions per block, warps and stages for two-byte dtypes; tuned on an H100."""
WIDE = {"BLOCK": 64, "num_warps": 4, "num_stages": 2}
"""Positions per block, warps and stages for four-byte dtypes; they fit the shared memory of smaller cards."""


@triton.jit
def d_kernel(
    x, gradient, outputs, times, bins, times_out, bins_out, early, low, stride, dilation,
    sums,
    CHANNELS: tl.constexpr, FEATURES: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the kernel. Grid: (taps, programs); each program strides over the blocks of outputs.

    Args:
        x: [B, T, F, C].
        gradient: [B, T', F', features].
        outputs: B · T' · F'.
        times, bins, times_out, bins_out: T, F, T', F'.
        early, low: zero padding before the first frame and below the first bin.
        stride: step in frequency.
        dilation: step in time between taps.
        sums: float32[programs, taps, C, features], partial sum of each program.
        BINS: number of taps in frequency.
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
    """Gradient of a convolution's kernel.

    Args:
        x: [B, T, F, C]; C and features must satisfy `launch.fits`.
        gradient: [B, T', F', features].
        taps: number of taps in time and in frequency.
        stride: step in frequency.
        before: zero padding before the first frame and below the first bin.
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
