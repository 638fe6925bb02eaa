"""Attention with relative positions in Triton: scores stay in registers and shared memory.

Each program processes one head of one sequence (in the forward pass, one block of its rows) and loops over blocks of
scores. The relative scores of a block come from a product with the embeddings of all distances in the block,
[BLOCK, 2 · BLOCK], from which each row gathers its BLOCK scores at its own offset. For the dimensions see
`models.attention`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jax import Array

from cmgan_jax.models.chunks import kept
from cmgan_jax.models.kernels.launch import launch, power, precision

BLOCK = 32
"""Rows and columns of a block of scores; tuned on an H100."""
TUNED = {"num_warps": 1, "num_stages": 2}
"""Launch options of both kernels; a single warp shifts scores with the fewest instructions (H100)."""

FAR = tl.constexpr(-1e30)
"""Added to the scores of masked positions; finite, so that a fully masked block does not produce NaN."""
LOG2_E = tl.constexpr(1.4426950408889634)
"""Factor that converts exponents of e to exponents of 2, for which the hardware has an instruction."""


@triton.jit
def _rows(source, first, positions, stride, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PADDED: tl.constexpr):
    """Load rows from `first` on, [BLOCK, PADDED], with zeros beyond the last position and the width."""
    row, column = first + tl.arange(0, BLOCK)[:, None], tl.arange(0, PADDED)[None, :]
    return tl.load(source + row * stride + column, mask=(row >= 0) & (row < positions) & (column < WIDTH), other=0.0)


@triton.jit
def _scores(
    query, key, embeddings, allowed, first, positions, scale,
    BLOCK: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores as exponents of 2, float32[BLOCK, BLOCK], of a block of queries and a block of keys from `first` on."""
    row, column = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)
    distance_scores = tl.dot(query, tl.trans(embeddings), input_precision=PRECISION)
    relative = tl.gather(distance_scores, BLOCK - 1 - row + column[None, :], 1)
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) + relative
    there = first + column < positions
    if MASKED:
        there = there & (tl.load(allowed + first + column, mask=there, other=0) != 0)
    return scores * (scale * LOG2_E) + tl.where(there, 0.0, FAR)[None, :]


@triton.jit
def forward(
    joined, table, allowed, positions, scale,
    out, log_total,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Softmax attention of a block of rows.

    Grid: (sequences · HEADS, blocks of rows).

    Args:
        joined: [sequences, N, 3 · HEADS · WIDTH]: queries, keys, values.
        table: [2N - 1, WIDTH], the embedding of distance N - 1 first.
        allowed: int8[sequences, N], mask of valid positions, read if MASKED.
        positions: N.
        scale: factor of the scores.
        out: [sequences, N, HEADS · WIDTH].
        log_total: float32[sequences, HEADS, N], base-2 logarithm of the softmax denominator.
    """
    head = tl.program_id(0)
    sequence = (head // HEADS).to(tl.int64)
    channels = HEADS * WIDTH
    begin = (head % HEADS) * WIDTH
    query = joined + sequence * positions * 3 * channels + begin
    key, value = query + channels, query + 2 * channels
    allowed += sequence * positions
    place = sequence * positions * channels + begin
    first_row = tl.program_id(1) * BLOCK
    rows = _rows(query, first_row, positions, 3 * channels, WIDTH, BLOCK, PADDED)
    largest = tl.full([BLOCK], FAR, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    sums = tl.zeros([BLOCK, PADDED], tl.float32)
    for first in range(0, positions, BLOCK):
        nearest = positions - BLOCK - first_row + first
        embeddings = _rows(table, nearest, 2 * positions - 1, WIDTH, WIDTH, 2 * BLOCK, PADDED)
        keys = _rows(key, first, positions, 3 * channels, WIDTH, BLOCK, PADDED)
        values = _rows(value, first, positions, 3 * channels, WIDTH, BLOCK, PADDED)
        scores = _scores(rows, keys, embeddings, allowed, first, positions, scale, BLOCK, MASKED, PRECISION)
        larger = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - larger[:, None])
        shrunk = tl.exp2(largest - larger)
        total = total * shrunk + tl.sum(weights, 1)
        sums = sums * shrunk[:, None] + tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
        largest = larger
    row, column = first_row + tl.arange(0, BLOCK), tl.arange(0, PADDED)[None, :]
    tl.store(log_total + head.to(tl.int64) * positions + row, largest + tl.log2(total), mask=row < positions)
    results = (sums / total[:, None]).to(rows.dtype)
    there = (row[:, None] < positions) & (column < WIDTH)
    tl.store(out + place + row[:, None] * channels + column, results, mask=there)


@triton.jit
def _add(target, update, first, positions, stride, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PADDED: tl.constexpr):
    """Add to rows that no other program touches; each place is updated by one thread only, so the order is fixed."""
    row, column = first + tl.arange(0, BLOCK)[:, None], tl.arange(0, PADDED)[None, :]
    there = (row < positions) & (column < WIDTH)
    tl.atomic_add(target + row * stride + column, update, mask=there, sem="relaxed")


@triton.jit
def backward(
    joined, table, allowed, out, log_total, gradient, positions, scale,
    d_joined, d_table,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of `forward`, computed one diagonal of blocks after another, since they use the same embeddings.

    Grid: (sequences · HEADS,).

    Args:
        joined, table, allowed, positions, scale, out, log_total: as in `forward`.
        gradient: like out.
        d_joined: float32, like joined; must be initialised with zeros.
        d_table: float32[sequences · HEADS, diagonals, 2 · BLOCK, PADDED], gradient of each diagonal's embeddings.
    """
    head = tl.program_id(0)
    sequence = (head // HEADS).to(tl.int64)
    channels = HEADS * WIDTH
    begin = (head % HEADS) * WIDTH
    place = sequence * positions * channels + begin
    out += place
    gradient += place
    place = sequence * positions * 3 * channels + begin
    query, d_query = joined + place, d_joined + place
    key, value = query + channels, query + 2 * channels
    d_key, d_value = d_query + channels, d_query + 2 * channels
    allowed += sequence * positions
    log_total += head.to(tl.int64) * positions
    blocks = tl.cdiv(positions, BLOCK)
    d_table += head.to(tl.int64) * (2 * blocks - 1) * (2 * BLOCK * PADDED)
    row, column, reach = tl.arange(0, BLOCK), tl.arange(0, PADDED), tl.arange(0, 2 * BLOCK)
    for diagonal in range(1 - blocks, blocks):
        nearest = positions - BLOCK + diagonal * BLOCK
        embeddings = _rows(table, nearest, 2 * positions - 1, WIDTH, WIDTH, 2 * BLOCK, PADDED)
        d_embeddings = tl.zeros([2 * BLOCK, PADDED], tl.float32)
        for first_row in range(tl.maximum(0, -diagonal) * BLOCK, tl.minimum(blocks, blocks - diagonal) * BLOCK, BLOCK):
            first = first_row + diagonal * BLOCK
            rows = _rows(query, first_row, positions, 3 * channels, WIDTH, BLOCK, PADDED)
            keys = _rows(key, first, positions, 3 * channels, WIDTH, BLOCK, PADDED)
            values = _rows(value, first, positions, 3 * channels, WIDTH, BLOCK, PADDED)
            results = _rows(out, first_row, positions, channels, WIDTH, BLOCK, PADDED)
            gradients = _rows(gradient, first_row, positions, channels, WIDTH, BLOCK, PADDED)
            total = tl.load(log_total + first_row + row, mask=first_row + row < positions, other=0.0)
            along = tl.sum(gradients.to(tl.float32) * results.to(tl.float32), 1)
            scores = _scores(rows, keys, embeddings, allowed, first, positions, scale, BLOCK, MASKED, PRECISION)
            weights = tl.exp2(scores - total[:, None])
            d_weights = tl.dot(gradients, tl.trans(values), input_precision=PRECISION)
            d_scores = (weights * (d_weights - along[:, None])).to(rows.dtype)
            met = reach[None, :] - (BLOCK - 1 - row[:, None])
            d_distance = tl.gather(d_scores, tl.minimum(tl.maximum(met, 0), BLOCK - 1), 1)
            d_distance = tl.where((met >= 0) & (met < BLOCK), d_distance, 0.0).to(rows.dtype)
            d_rows = tl.dot(d_scores, keys, input_precision=PRECISION)
            d_rows += tl.dot(d_distance, embeddings, input_precision=PRECISION)
            d_keys = tl.dot(tl.trans(d_scores), rows, input_precision=PRECISION)
            d_values = tl.dot(tl.trans(weights.to(gradients.dtype)), gradients, input_precision=PRECISION)
            d_embeddings += tl.dot(tl.trans(d_distance), rows, input_precision=PRECISION)
            _add(d_query, d_rows * scale, first_row, positions, 3 * channels, WIDTH, BLOCK, PADDED)
            _add(d_key, d_keys * scale, first, positions, 3 * channels, WIDTH, BLOCK, PADDED)
            _add(d_value, d_values, first, positions, 3 * channels, WIDTH, BLOCK, PADDED)
        index = (diagonal + blocks - 1) * (2 * BLOCK * PADDED)
        tl.store(d_table + index + reach[:, None] * PADDED + column[None, :], d_embeddings * scale)


def _compiled_for(joined: Array, heads: int, valid: Array | None) -> dict[str, Any]:
    """Compile-time constants of both kernels."""
    width = joined.shape[-1] // (3 * heads)
    return {
        "HEADS": heads,
        "WIDTH": width,
        "PADDED": power(width),
        "BLOCK": BLOCK,
        "MASKED": valid is not None,
        "PRECISION": precision(joined.dtype),
    } | TUNED


def _operands(joined: Array, distances: Array, valid: Array | None) -> tuple[Array, ...]:
    """First operands of both kernels."""
    return joined, distances.astype(joined.dtype), jnp.zeros(1, jnp.int8) if valid is None else valid.astype(jnp.int8)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def attend(joined: Array, distances: Array, valid: Array | None, heads: int) -> Array:
    """Same as `models.attention.attend`, with all heads concatenated along the last axis.

    Args:
        joined: [sequences, N, 3 · H · K]: queries, keys, values.
        distances: float32[2N - 1, K], the embedding of distance N - 1 first and of 1 - N last.
        valid: bool[sequences, N], positions that may be attended to; None: all.
        heads: H.

    Returns:
        [sequences, N, H · K].
    """
    return _attend_forward(joined, distances, valid, heads)[0]


def _attend_forward(joined: Array, distances: Array, valid: Array | None, heads: int) -> tuple[Array, Any]:
    sequences, positions, channels = joined.shape
    out, log_total = launch(
        forward,
        (sequences * heads, triton.cdiv(positions, BLOCK)),
        (*_operands(joined, distances, valid), positions, np.float32(distances.shape[-1] ** -0.5)),
        (((sequences, positions, channels // 3), joined.dtype), ((sequences, heads, positions), jnp.float32)),
        **_compiled_for(joined, heads, valid),
    )
    out, log_total = kept(out), kept(log_total)
    return out, (joined, distances, valid, out, log_total)


def _attend_backward(heads: int, residual: Any, gradient: Array) -> tuple[Array, Array, None]:
    joined, distances, valid, out, log_total = residual
    sequences, positions, _ = joined.shape
    width = distances.shape[-1]
    blocks = triton.cdiv(positions, BLOCK)
    d_joined, d_table = launch(
        backward,
        (sequences * heads,),
        (*_operands(joined, distances, valid), out, log_total, gradient, positions, np.float32(width**-0.5)),
        (
            (joined.shape, jnp.float32),
            ((sequences * heads, 2 * blocks - 1, 2 * BLOCK, power(width)), jnp.float32),
        ),
        zeroed_outputs=(0,),
        **_compiled_for(joined, heads, valid),
    )
    # Each diagonal uses two blocks of distances; the second of them is the first block of the next diagonal.
    far, near = jnp.split(jnp.sum(d_table, axis=0), 2, axis=1)
    one = ((0, 0), (0, 0))
    d_distances = (jnp.pad(far, ((0, 1), *one)) + jnp.pad(near, ((1, 0), *one))).reshape(-1, power(width))
    first = blocks * BLOCK - positions
    return d_joined.astype(joined.dtype), d_distances[first : first + 2 * positions - 1, :width], None


attend.defvjp(_attend_forward, _attend_backward)
