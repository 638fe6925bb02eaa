"""Layer norm of a block of rows in Triton, for kernels that begin with a layer norm."""

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from cmgan_jax.models import layers

EPSILON = tl.constexpr(layers.EPSILON)


@triton.jit
def normal(x, CHANNELS: tl.constexpr):
    """Normalise rows x, float32[BLOCK, CHANNELS], to mean 0 and variance 1; also return the inverse deviations."""
    centred = x - tl.sum(x, 1)[:, None] / CHANNELS
    inverse = tl.rsqrt(tl.sum(centred * centred, 1) / CHANNELS + EPSILON)
    return centred * inverse[:, None], inverse


@triton.jit
def normal_rows(source, place, there, scales, shifts, CHANNELS: tl.constexpr):
    """Load rows [BLOCK, CHANNELS] at `place`; return them raw, normalised, the inverse deviations, and scaled."""
    before = tl.load(source + place, mask=there, other=0.0)
    unit, inverse = normal(before.to(tl.float32), CHANNELS)
    return before, unit, inverse, (unit * scales + shifts).to(before.dtype)


@triton.jit
def before_normal(d_unit, unit, inverse, CHANNELS: tl.constexpr):
    """Gradient of the input of `normal`, from the gradient of its rows and from its results."""
    mean = tl.sum(d_unit, 1)[:, None] / CHANNELS
    along = tl.sum(d_unit * unit, 1)[:, None] / CHANNELS
    return (d_unit - mean - unit * along) * inverse[:, None]
