"""A gated linear unit with its layer norm in Triton; values and gates stay on chip.

    out = value · sigmoid(gate),  value, gate = halves of expand · norm(x) + bias

Rows are the positions of all sequences in order. Dimensions: R rows, C input channels, F output channels.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jax import Array

from cmgan_jax.models.kernels.launch import Tiles, launch
from cmgan_jax.models.kernels.norm import before_normal, normal_rows

TILES = Tiles(64, 32, 4, 1)
"""Tile sizes of all three kernels; tuned on an H100."""
PROGRAMS = 264
"""Maximum number of programs that share the parameters' gradients: two per multiprocessor of an H100."""


@triton.jit
def _half(rows, expand, bias, column, CHANNELS: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr):
    """Columns `column` of the product, float32."""
    channel = tl.arange(0, CHANNELS)
    weights = tl.load(expand + channel[:, None] * WIDE + column[None, :])
    return tl.dot(rows, weights, input_precision=PRECISION) + tl.load(bias + column)[None, :]


@triton.jit
def forward(
    x, scale, shift, expand, bias, rows,
    out,
    CHANNELS: tl.constexpr, FEATURES: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute `out`. Grid: (blocks of rows,).

    Args:
        x: [R, C].
        scale, shift: float32[C], parameters of the norm.
        expand: [C, 2F], in the dtype of x; bias: float32[2F].
        rows: R.
        out: [R, F], in the dtype of x.
    """
    row, channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, CHANNELS)
    there = (row < rows)[:, None]
    place = row.to(tl.int64)[:, None]
    scales, shifts = tl.load(scale + channel)[None, :], tl.load(shift + channel)[None, :]
    before, _, _, normalised = normal_rows(x, place * CHANNELS + channel[None, :], there, scales, shifts, CHANNELS)
    for first in range(0, FEATURES, PART):
        feature = first + tl.arange(0, PART)
        value = _half(normalised, expand, bias, feature, CHANNELS, 2 * FEATURES, PRECISION)
        gate = _half(normalised, expand, bias, FEATURES + feature, CHANNELS, 2 * FEATURES, PRECISION)
        results = (value * tl.sigmoid(gate)).to(before.dtype)
        tl.store(out + place * FEATURES + feature[None, :], results, mask=there)


@triton.jit
def _of_halves(
    normalised, gradients, expand, bias, feature,
    CHANNELS: tl.constexpr, FEATURES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the values and of the gates, float32[BLOCK, PART] each."""
    value = _half(normalised, expand, bias, feature, CHANNELS, 2 * FEATURES, PRECISION)
    gate = tl.sigmoid(_half(normalised, expand, bias, FEATURES + feature, CHANNELS, 2 * FEATURES, PRECISION))
    d_value = gradients * gate
    return d_value, d_value * value * (1 - gate)


@triton.jit
def d_weights(
    x, gradient, scale, shift, expand, bias, rows,
    d_expand, d_bias,
    CHANNELS: tl.constexpr, FEATURES: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of `expand` and `bias`. Grid: (programs, F / PART); each program strides over the blocks of rows.

    Args:
        gradient: like `out` of `forward`, which also describes the other arguments.
        d_expand: float32[programs, C, 2F], partial sum of each program.
        d_bias: float32[programs, 2F], partial sum of each program.
    """
    program = tl.program_id(0)
    channel, feature = tl.arange(0, CHANNELS), tl.program_id(1) * PART + tl.arange(0, PART)
    scales, shifts = tl.load(scale + channel)[None, :], tl.load(shift + channel)[None, :]
    sums_of_value = tl.zeros([CHANNELS, PART], tl.float32)
    sums_of_gate = tl.zeros([CHANNELS, PART], tl.float32)
    value_bias, gate_bias = tl.zeros([PART], tl.float32), tl.zeros([PART], tl.float32)
    for first in range(program * BLOCK, rows, tl.num_programs(0) * BLOCK):
        row = first + tl.arange(0, BLOCK)
        there = (row < rows)[:, None]
        place = row.to(tl.int64)[:, None]
        before, _, _, normalised = normal_rows(x, place * CHANNELS + channel[None, :], there, scales, shifts, CHANNELS)
        gradients = tl.load(gradient + place * FEATURES + feature[None, :], mask=there, other=0.0).to(tl.float32)
        d_value, d_gate = _of_halves(normalised, gradients, expand, bias, feature, CHANNELS, FEATURES, PRECISION)
        value_bias += tl.sum(d_value, 0)
        gate_bias += tl.sum(d_gate, 0)
        turned = tl.trans(normalised)
        sums_of_value += tl.dot(turned, d_value.to(before.dtype), input_precision=PRECISION)
        sums_of_gate += tl.dot(turned, d_gate.to(before.dtype), input_precision=PRECISION)
    target = d_expand + (program * CHANNELS + channel[:, None]) * 2 * FEATURES + feature[None, :]
    tl.store(target, sums_of_value)
    tl.store(target + FEATURES, sums_of_gate)
    target = d_bias + program * 2 * FEATURES + feature
    tl.store(target, value_bias)
    tl.store(target + FEATURES, gate_bias)


@triton.jit
def d_input(
    x, gradient, scale, shift, expand, bias, rows,
    d_x, d_norm,
    CHANNELS: tl.constexpr, FEATURES: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the input and of the norm. Grid: (programs,); each program strides over the blocks of rows.

    Args:
        gradient: like `out` of `forward`, which also describes the other arguments.
        d_x: like x.
        d_norm: float32[programs, 2, C], partial sums of each program for scale and shift.
    """
    program = tl.program_id(0)
    channel = tl.arange(0, CHANNELS)
    scales, shifts = tl.load(scale + channel)[None, :], tl.load(shift + channel)[None, :]
    sums_of_scale, sums_of_shift = tl.zeros([CHANNELS], tl.float32), tl.zeros([CHANNELS], tl.float32)
    for first in range(program * BLOCK, rows, tl.num_programs(0) * BLOCK):
        row = first + tl.arange(0, BLOCK)
        there = (row < rows)[:, None]
        place = row.to(tl.int64)[:, None]
        places = place * CHANNELS + channel[None, :]
        before, unit, inverse, normalised = normal_rows(x, places, there, scales, shifts, CHANNELS)
        d_normalised = tl.zeros([BLOCK, CHANNELS], tl.float32)
        for begin in range(0, FEATURES, PART):
            feature = begin + tl.arange(0, PART)
            gradients = tl.load(gradient + place * FEATURES + feature[None, :], mask=there, other=0.0).to(tl.float32)
            d_value, d_gate = _of_halves(normalised, gradients, expand, bias, feature, CHANNELS, FEATURES, PRECISION)
            weights = expand + channel[None, :] * 2 * FEATURES + feature[:, None]
            d_normalised += tl.dot(d_value.to(before.dtype), tl.load(weights), input_precision=PRECISION)
            d_normalised += tl.dot(d_gate.to(before.dtype), tl.load(weights + FEATURES), input_precision=PRECISION)
        sums_of_scale += tl.sum(d_normalised * unit, 0)
        sums_of_shift += tl.sum(d_normalised, 0)
        d_before = before_normal(d_normalised * scales, unit, inverse, CHANNELS)
        tl.store(d_x + places, d_before.to(before.dtype), mask=there)
    target = d_norm + program * 2 * CHANNELS + channel
    tl.store(target, sums_of_scale)
    tl.store(target + CHANNELS, sums_of_shift)


class GatedWeights(NamedTuple):
    """Parameters in float32: scale and shift of the norm [C], expand [C, 2F] and bias [2F]."""

    scale: Array
    shift: Array
    expand: Array
    bias: Array


def _compiled_for(x: Array, weights: GatedWeights) -> dict[str, Any]:
    features = weights.expand.shape[1] // 2
    return {"CHANNELS": x.shape[-1], "FEATURES": features} | TILES.compiled_for(x.dtype, features)


@jax.custom_vjp
def gated(x: Array, weights: GatedWeights) -> Array:
    """Layer norm followed by a gated linear unit.

    Args:
        x: [sequences, N, C]; C and F must satisfy `launch.fits`.
        weights: parameters.

    Returns:
        [sequences, N, F].
    """
    compiled_for = _compiled_for(x, weights)
    rows, features = x.shape[0] * x.shape[1], compiled_for["FEATURES"]
    (out,) = launch(
        forward,
        (triton.cdiv(rows, compiled_for["BLOCK"]),),
        (x, weights.scale, weights.shift, weights.expand.astype(x.dtype), weights.bias, rows),
        (((*x.shape[:2], features), x.dtype),),
        **compiled_for,
    )
    return out


def _gated_forward(x: Array, weights: GatedWeights) -> tuple[Array, Any]:
    return gated(x, weights), (x, weights)


def _gated_backward(residual: Any, gradient: Array) -> tuple[Array, GatedWeights]:
    x, weights = residual
    compiled_for = _compiled_for(x, weights)
    rows, (channels, wide) = x.shape[0] * x.shape[1], weights.expand.shape
    programs = min(triton.cdiv(rows, compiled_for["BLOCK"]), PROGRAMS)
    operands = (x, gradient, weights.scale, weights.shift, weights.expand.astype(x.dtype), weights.bias, rows)
    shares = launch(
        d_weights,
        (programs, compiled_for["FEATURES"] // compiled_for["PART"]),
        operands,
        (((programs, channels, wide), jnp.float32), ((programs, wide), jnp.float32)),
        **compiled_for,
    )
    d_x, d_norm = launch(
        d_input, (programs,), operands, ((x.shape, x.dtype), ((programs, 2, channels), jnp.float32)), **compiled_for
    )
    return d_x, GatedWeights(*jnp.sum(d_norm, axis=0), *(jnp.sum(share, axis=0) for share in shares))


gated.defvjp(_gated_forward, _gated_backward)
