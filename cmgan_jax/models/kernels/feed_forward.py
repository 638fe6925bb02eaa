"""The half-step feed-forward in Triton: the hidden layer, several times as wide as its input, never leaves the chip.

    out = x + half · drop(contract · drop(silu(expand · norm(x) + bias)) + bias)

Rows are the positions of all sequences in order. Dimensions: R rows, C channels, F hidden units.
Dropout equals `models.layers.Dropout`: whether element e is dropped depends on a hash of e and of the layer's two
seeds.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jax import Array

from cmgan_jax.models.kernels.launch import Tiles, launch
from cmgan_jax.models.kernels.norm import before_normal, normal_rows

FORWARD, OF_WEIGHTS, OF_INPUT = Tiles(64, 32, 4, 1), Tiles(32, 64, 4, 2), Tiles(64, 32, 4, 1)
"""Tile sizes of the three kernels; tuned on an H100."""
PROGRAMS_OF_WEIGHTS, PROGRAMS_OF_INPUT = 264, 528
"""Maximum number of programs that share the parameters' gradients: two and four per multiprocessor of an H100."""


@triton.jit
def _mix(bits):
    """The 32-bit finaliser of MurmurHash3."""
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35
    return bits ^ (bits >> 16)


@triton.jit
def _kept(seeds, element, THRESHOLD: tl.constexpr, SURVIVOR: tl.constexpr):
    """Dropout factor of each element: 0 where its hash is below THRESHOLD, else SURVIVOR; element: uint32."""
    bits = _mix(_mix(element + tl.load(seeds)) ^ tl.load(seeds + 1))
    return tl.where(bits >= THRESHOLD, SURVIVOR, 0.0)


@triton.jit
def _drop(x, seeds, element, THRESHOLD: tl.constexpr, SURVIVOR: tl.constexpr):
    """Apply dropout, unless the threshold is 0."""
    if THRESHOLD > 0:
        x *= _kept(seeds, element, THRESHOLD, SURVIVOR)
    return x


@triton.jit
def _elements(row_ids, positions, row, column, WIDTH: tl.constexpr):
    """Index of each element in the global batch, uint32; only the first of `row_ids` is read."""
    first = tl.load(row_ids) * tl.cast(positions, tl.uint32)
    return (first + row.to(tl.uint32))[:, None] * WIDTH + column.to(tl.uint32)[None, :]


@triton.jit
def forward(
    x, scale, shift, expand, expand_bias, contract, contract_bias, seeds, row_ids, rows, positions,
    out,
    CHANNELS: tl.constexpr, HIDDEN: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, HALF: tl.constexpr,
    THRESHOLD: tl.constexpr, SURVIVOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute `out`. Grid: (blocks of rows,).

    Args:
        x: [R, C].
        scale, shift: float32[C], parameters of the norm.
        expand: [C, F], in the dtype of x; expand_bias: float32[F].
        contract: [F, C], in the dtype of x; contract_bias: float32[C].
        seeds: uint32[4], seeds of dropout in the hidden layer and at the end, two each.
        row_ids: uint32[sequences], indices of the sequences in the global batch; consecutive except for padding.
        rows: R.
        positions: positions per sequence.
        out: like x.
        HALF: weight of the residual branch.
        THRESHOLD, SURVIVOR: parameters of dropout; a threshold of 0 turns it off.
    """
    row, channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, CHANNELS)
    scales, shifts = tl.load(scale + channel)[None, :], tl.load(shift + channel)[None, :]
    place = row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
    there = (row < rows)[:, None]
    before, _, _, normalised = normal_rows(x, place, there, scales, shifts, CHANNELS)
    sums = tl.zeros([BLOCK, CHANNELS], tl.float32)
    for first in range(0, HIDDEN, PART):
        hidden = first + tl.arange(0, PART)
        weights = tl.load(expand + channel[:, None] * HIDDEN + hidden[None, :])
        wide = tl.dot(normalised, weights, input_precision=PRECISION) + tl.load(expand_bias + hidden)[None, :]
        wide = wide * tl.sigmoid(wide)
        wide = _drop(wide, seeds, _elements(row_ids, positions, row, hidden, HIDDEN), THRESHOLD, SURVIVOR)
        weights = tl.load(contract + hidden[:, None] * CHANNELS + channel[None, :])
        sums += tl.dot(wide.to(before.dtype), weights, input_precision=PRECISION)
    sums += tl.load(contract_bias + channel)[None, :]
    sums = _drop(sums, seeds + 2, _elements(row_ids, positions, row, channel, CHANNELS), THRESHOLD, SURVIVOR)
    tl.store(out + place, (before.to(tl.float32) + HALF * sums).to(before.dtype), mask=there)


@triton.jit
def _hidden(
    normalised, gradients, expand, expand_bias, contract, seeds, elements, hidden,
    CHANNELS: tl.constexpr, HIDDEN: tl.constexpr,
    THRESHOLD: tl.constexpr, SURVIVOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Part of the hidden layer: its output after SiLU and dropout, [BLOCK, PART], and the gradient before SiLU."""
    channel = tl.arange(0, CHANNELS)
    weights = tl.load(expand + channel[:, None] * HIDDEN + hidden[None, :])
    wide = tl.dot(normalised, weights, input_precision=PRECISION) + tl.load(expand_bias + hidden)[None, :]
    gate = tl.sigmoid(wide)
    weights = tl.load(contract + hidden[None, :] * CHANNELS + channel[:, None])
    d_wide = tl.dot(gradients, weights, input_precision=PRECISION)
    goes_on = wide * gate
    if THRESHOLD > 0:
        kept = _kept(seeds, elements, THRESHOLD, SURVIVOR)
        goes_on *= kept
        d_wide *= kept
    return goes_on.to(normalised.dtype), d_wide * gate * (1 + wide * (1 - gate))


@triton.jit
def d_weights(
    x, gradient, scale, shift, expand, expand_bias, contract, seeds, row_ids, rows, positions,
    d_expand, d_expand_bias, d_contract,
    CHANNELS: tl.constexpr, HIDDEN: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, HALF: tl.constexpr,
    THRESHOLD: tl.constexpr, SURVIVOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of `expand`, its bias and `contract`, as one partial sum per program.

    Grid: (programs, HIDDEN / PART); each program strides over the blocks of rows.

    Args:
        gradient: like `out` of `forward`, which also describes the other arguments.
        d_expand: float32[programs, C, F].
        d_expand_bias: float32[programs, F].
        d_contract: float32[programs, F, C].
    """
    program = tl.program_id(0)
    channel, hidden = tl.arange(0, CHANNELS), tl.program_id(1) * PART + tl.arange(0, PART)
    scales, shifts = tl.load(scale + channel)[None, :], tl.load(shift + channel)[None, :]
    sums = tl.zeros([CHANNELS, PART], tl.float32)
    sums_of_bias = tl.zeros([PART], tl.float32)
    sums_of_contract = tl.zeros([PART, CHANNELS], tl.float32)
    for first in range(program * BLOCK, rows, tl.num_programs(0) * BLOCK):
        row = first + tl.arange(0, BLOCK)
        place = row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        there = (row < rows)[:, None]
        before, _, _, normalised = normal_rows(x, place, there, scales, shifts, CHANNELS)
        gradients = HALF * tl.load(gradient + place, mask=there, other=0.0).to(tl.float32)
        gradients = _drop(
            gradients, seeds + 2, _elements(row_ids, positions, row, channel, CHANNELS), THRESHOLD, SURVIVOR
        )
        gradients = gradients.to(before.dtype)
        elements = _elements(row_ids, positions, row, hidden, HIDDEN)
        wide, d_wide = _hidden(
            normalised, gradients, expand, expand_bias, contract, seeds, elements, hidden,
            CHANNELS, HIDDEN, THRESHOLD, SURVIVOR, PRECISION,
        )  # fmt: skip
        sums_of_bias += tl.sum(d_wide, 0)
        sums += tl.dot(tl.trans(normalised), d_wide.to(before.dtype), input_precision=PRECISION)
        sums_of_contract += tl.dot(tl.trans(wide), gradients, input_precision=PRECISION)
    tl.store(d_expand + (program * CHANNELS + channel[:, None]) * HIDDEN + hidden[None, :], sums)
    tl.store(d_expand_bias + program * HIDDEN + hidden, sums_of_bias)
    tl.store(d_contract + (program * HIDDEN + hidden[:, None]) * CHANNELS + channel[None, :], sums_of_contract)


@triton.jit
def d_input(
    x, gradient, scale, shift, expand, expand_bias, contract, seeds, row_ids, rows, positions,
    d_x, d_norm,
    CHANNELS: tl.constexpr, HIDDEN: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, HALF: tl.constexpr,
    THRESHOLD: tl.constexpr, SURVIVOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the input, of the norm and of contract_bias.

    Grid: (programs,); each program strides over the blocks of rows.

    Args:
        gradient: like `out` of `forward`, which also describes the other arguments.
        d_x: like x.
        d_norm: float32[programs, 3, C], partial sums of each program for scale, shift and contract_bias.
    """
    program = tl.program_id(0)
    channel = tl.arange(0, CHANNELS)
    scales, shifts = tl.load(scale + channel)[None, :], tl.load(shift + channel)[None, :]
    sums_of_scale = tl.zeros([CHANNELS], tl.float32)
    sums_of_shift = tl.zeros([CHANNELS], tl.float32)
    sums_of_bias = tl.zeros([CHANNELS], tl.float32)
    for first in range(program * BLOCK, rows, tl.num_programs(0) * BLOCK):
        row = first + tl.arange(0, BLOCK)
        place = row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        there = (row < rows)[:, None]
        before, unit, inverse, normalised = normal_rows(x, place, there, scales, shifts, CHANNELS)
        whole = tl.load(gradient + place, mask=there, other=0.0).to(tl.float32)
        gradients = HALF * whole
        gradients = _drop(
            gradients, seeds + 2, _elements(row_ids, positions, row, channel, CHANNELS), THRESHOLD, SURVIVOR
        )
        sums_of_bias += tl.sum(gradients, 0)
        gradients = gradients.to(before.dtype)
        d_normalised = tl.zeros([BLOCK, CHANNELS], tl.float32)
        for begin in range(0, HIDDEN, PART):
            hidden = begin + tl.arange(0, PART)
            elements = _elements(row_ids, positions, row, hidden, HIDDEN)
            _, d_wide = _hidden(
                normalised, gradients, expand, expand_bias, contract, seeds, elements, hidden,
                CHANNELS, HIDDEN, THRESHOLD, SURVIVOR, PRECISION,
            )  # fmt: skip
            weights = tl.load(expand + channel[None, :] * HIDDEN + hidden[:, None])
            d_normalised += tl.dot(d_wide.to(before.dtype), weights, input_precision=PRECISION)
        sums_of_scale += tl.sum(d_normalised * unit, 0)
        sums_of_shift += tl.sum(d_normalised, 0)
        d_before = whole + before_normal(d_normalised * scales, unit, inverse, CHANNELS)
        tl.store(d_x + place, d_before.to(before.dtype), mask=there)
    place = d_norm + program * 3 * CHANNELS + channel
    tl.store(place, sums_of_scale)
    tl.store(place + CHANNELS, sums_of_shift)
    tl.store(place + 2 * CHANNELS, sums_of_bias)


class FeedForwardWeights(NamedTuple):
    """Parameters in float32: scale and shift of the norm [C], expand [C, F] and [F], contract [F, C] and [C]."""

    scale: Array
    shift: Array
    expand: Array
    expand_bias: Array
    contract: Array
    contract_bias: Array


def _compiled_for(x: Array, hidden: int, half: float, rate: float, tiles: Tiles) -> dict[str, Any]:
    return {
        "CHANNELS": x.shape[-1],
        "HIDDEN": hidden,
        "HALF": half,
        "THRESHOLD": int(rate * 2**32),
        "SURVIVOR": 1 / (1 - rate),
    } | tiles.compiled_for(x.dtype, hidden)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def feed_forward(
    x: Array, weights: FeedForwardWeights, seeds: Array, row_ids: Array, half: float, rate: float
) -> Array:
    """Feed-forward with layer norm, dropout and residual.

    Args:
        x: [sequences, N, C]; C and the hidden width must satisfy `launch.fits`.
        weights: parameters.
        seeds: uint32[4], seeds of dropout in the hidden layer and at the end, two each.
        row_ids: uint32[sequences], indices of the sequences in the global batch; consecutive except for padding.
        half: weight of the residual branch.
        rate: dropout rate.

    Returns:
        [sequences, N, C].
    """
    rows = x.shape[0] * x.shape[1]
    compiled_for = _compiled_for(x, weights.expand.shape[1], half, rate, FORWARD)
    (out,) = launch(
        forward,
        (triton.cdiv(rows, compiled_for["BLOCK"]),),
        (
            x,
            weights.scale,
            weights.shift,
            weights.expand.astype(x.dtype),
            weights.expand_bias,
            weights.contract.astype(x.dtype),
            weights.contract_bias,
            seeds,
            row_ids,
            rows,
            x.shape[1],
        ),
        ((x.shape, x.dtype),),
        **compiled_for,
    )
    return out


def _feed_forward_forward(
    x: Array, weights: FeedForwardWeights, seeds: Array, row_ids: Array, half: float, rate: float
) -> tuple[Array, Any]:
    return feed_forward(x, weights, seeds, row_ids, half, rate), (x, weights, seeds, row_ids)


def _feed_forward_backward(half: float, rate: float, residual: Any, gradient: Array) -> tuple[Any, ...]:
    x, weights, seeds, row_ids = residual
    channels, hidden = weights.expand.shape
    rows = x.shape[0] * x.shape[1]
    operands = (
        x,
        gradient,
        weights.scale,
        weights.shift,
        weights.expand.astype(x.dtype),
        weights.expand_bias,
        weights.contract.astype(x.dtype),
        seeds,
        row_ids,
        rows,
        x.shape[1],
    )
    compiled_for = _compiled_for(x, hidden, half, rate, OF_WEIGHTS)
    programs = min(triton.cdiv(rows, compiled_for["BLOCK"]), PROGRAMS_OF_WEIGHTS)
    shapes = ((programs, channels, hidden), (programs, hidden), (programs, hidden, channels))
    shares = launch(
        d_weights,
        (programs, hidden // compiled_for["PART"]),
        operands,
        [(shape, jnp.float32) for shape in shapes],
        **compiled_for,
    )
    d_expand, d_expand_bias, d_contract = (jnp.sum(share, axis=0) for share in shares)
    compiled_for = _compiled_for(x, hidden, half, rate, OF_INPUT)
    programs = min(triton.cdiv(rows, compiled_for["BLOCK"]), PROGRAMS_OF_INPUT)
    d_x, d_norm = launch(
        d_input, (programs,), operands, ((x.shape, x.dtype), ((programs, 3, channels), jnp.float32)), **compiled_for
    )
    d_scale, d_shift, d_contract_bias = jnp.sum(d_norm, axis=0)
    return d_x, FeedForwardWeights(d_scale, d_shift, d_expand, d_expand_bias, d_contract, d_contract_bias), None, None


feed_forward.defvjp(_feed_forward_forward, _feed_forward_backward)
