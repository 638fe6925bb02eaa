"""Layer norm of a block of rows, in Triton, for kernels that begin with one."""

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from cmgan_jax.models import layers

EPSILON = tl.constexpr(layers.EPSILON)


@triton.jit
def normal(x, CHANNELS: tl.constexpr):
    """Rows without mean and of unit variance, and what they were multiplied by; x: float32[BLOCK, CHANNELS]."""
    centred = x - tl.sum(x, 1)[:, None] / CHANNELS
    inverse = tl.rsqrt(tl.sum(centred * centred, 1) / CHANNELS + EPSILON)
    return centred * inverse[:, None], inverse


@triton.jit
def normal_rows(source, place, there, scales, shifts, CHANNELS: tl.constexpr):
    """Rows [BLOCK, CHANNELS] as they lie at `place`, of unit variance, what they were multiplied by, and normed."""
    before = tl.load(source + place, mask=there, other=0.0)
    unit, inverse = normal(before.to(tl.float32), CHANNELS)
    return before, unit, inverse, (unit * scales + shifts).to(before.dtype)


@triton.jit
def before_normal(d_unit, unit, inverse, CHANNELS: tl.constexpr):
    """The gradient of what `normal` took, from that of its rows and from what it gave."""
    mean = tl.sum(d_unit, 1)[:, None] / CHANNELS
    along = tl.sum(d_unit * unit, 1)[:, None] / CHANNELS
    return (d_unit - mean - unit * along) * inverse[:, None]
