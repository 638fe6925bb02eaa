"""Depthwise convolution along sequences in Triton: inputs shared by neighbouring outputs are read from cache."""

import jax
import jax.numpy as jnp
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jax import Array

from cmgan_jax.models.kernels.launch import launch, power

POSITIONS = 64
"""Positions per program; tuned on an H100."""
SUMMED = 2
"""Positions with separate partial sums in a program of the kernel's gradient; tuned on an H100."""
PROGRAMS = 408
"""Maximum number of programs that share the kernel's gradient; tuned on an H100."""


@triton.jit
def forward(
    x, kernel, positions,
    out,
    CHANNELS: tl.constexpr, PADDED: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum over k of kernel[k] · x[n + k - TAPS // 2], zeros outside.

    Grid: (sequences, blocks of positions).

    Args:
        x: [sequences, N, CHANNELS].
        kernel: float32[TAPS, CHANNELS].
        positions: N.
        out: like x.
    """
    place = tl.program_id(0).to(tl.int64) * positions * CHANNELS
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    channel = tl.arange(0, PADDED)[None, :]
    known = channel < CHANNELS
    sums = tl.zeros([BLOCK, PADDED], tl.float32)
    for k in tl.static_range(TAPS):
        met = n + (k - TAPS // 2)
        there = (met >= 0) & (met < positions) & known
        taken = tl.load(x + place + met * CHANNELS + channel, mask=there, other=0.0)
        sums += taken.to(tl.float32) * tl.load(kernel + k * CHANNELS + channel, mask=known, other=0.0)
    tl.store(out + place + n * CHANNELS + channel, sums.to(x.dtype.element_ty), mask=(n < positions) & known)


@triton.jit
def d_kernel(
    x, gradient, sequences, positions,
    sums,
    CHANNELS: tl.constexpr, PADDED: tl.constexpr, TAPS: tl.constexpr, ALL_TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The kernel's gradient: sum over sequences and n of x[n + k - TAPS // 2] · gradient[n].

    Grid: (programs,); each program strides over the sequences.

    Args:
        x: [sequences, N, CHANNELS].
        gradient: like x.
        sequences: number of sequences.
        positions: N.
        sums: float32[programs, ALL_TAPS, PADDED], partial sum of each program; rows beyond TAPS are meaningless.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    tap = tl.arange(0, ALL_TAPS)[:, None, None]
    block = tl.arange(0, BLOCK)[None, :, None]
    channel = tl.arange(0, PADDED)[None, None, :]
    known = channel < CHANNELS
    total = tl.zeros([ALL_TAPS, BLOCK, PADDED], tl.float32)
    for sequence in range(program, sequences, programs):
        place = sequence * tl.cast(positions, tl.int64) * CHANNELS
        for first in range(0, positions, BLOCK):
            n = first + block
            grad = tl.load(gradient + place + n * CHANNELS + channel, mask=(n < positions) & known, other=0.0)
            met = n + tap - TAPS // 2
            there = (met >= 0) & (met < positions) & known
            total += tl.load(x + place + met * CHANNELS + channel, mask=there, other=0.0).to(tl.float32) * grad
    taps, channels = tl.arange(0, ALL_TAPS)[:, None], tl.arange(0, PADDED)[None, :]
    tl.store(sums + (program * ALL_TAPS + taps) * PADDED + channels, tl.sum(total, 1))


@jax.custom_vjp
def depthwise(x: Array, kernel: Array) -> Array:
    """Same as `models.depthwise.depthwise`.

    Args:
        x: [sequences, N, C].
        kernel: float32[width, C], width odd.

    Returns:
        [sequences, N, C].
    """
    sequences, positions, channels = x.shape
    (out,) = launch(
        forward,
        (sequences, triton.cdiv(positions, POSITIONS)),
        (x, kernel, positions),
        ((x.shape, x.dtype),),
        CHANNELS=channels,
        PADDED=power(channels),
        TAPS=kernel.shape[0],
        BLOCK=POSITIONS,
        num_warps=8,
    )
    return out


def _depthwise_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return depthwise(x, kernel), (x, kernel)


def _depthwise_backward(residual: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = residual
    sequences, positions, channels = x.shape
    taps, programs = kernel.shape[0], min(sequences, PROGRAMS)
    (sums,) = launch(
        d_kernel,
        (programs,),
        (x, gradient, sequences, positions),
        (((programs, power(taps), power(channels)), jnp.float32),),
        CHANNELS=channels,
        PADDED=power(channels),
        TAPS=taps,
        ALL_TAPS=power(taps),
        BLOCK=SUMMED,
        num_warps=4,
    )
    return depthwise(gradient, kernel[::-1]), jnp.sum(sums, axis=0)[:taps, :channels]


depthwise.defvjp(_depthwise_forward, _depthwise_backward)
