"""Relative-position scores of attention and their gradients, in two implementations.

By distance (CPU): one product for each block of rows with the embeddings of all distances in the block, from which
each row then reads its N scores by a shift. This moves slightly more data than needed, but within a CPU's caches.

By pair (GPU): one product for each row with exactly the embeddings that it needs. Only the table of embeddings, which
all sequences share, is shifted; this matters because memory traffic limits a step on a GPU.
"""

import jax.numpy as jnp
from jax import Array

from cmgan_jax.models import backends
from cmgan_jax.models.chunks import equal_parts

BLOCK = 64
"""Maximum number of rows in a block when scores are computed by distance; tuned on a CPU."""


def shift(scores: Array) -> Array:
    """Convert scores by distance to scores by position: out[i, j] = scores[i, R - 1 - i + j].

    Instead of a gather, the same memory is reinterpreted with rows that are one element shorter.

    Args:
        scores: [..., R, N + R]; column m belongs to the distance i - j = R - 1 - m, and the last column is unused.

    Returns:
        [..., R, N].
    """
    *lead, rows, width = scores.shape
    flat = scores.reshape(*lead, rows * width)[..., : rows * (width - 1)]
    return flat.reshape(*lead, rows, width - 1)[..., rows - 1 :]


def unshift(scores: Array) -> Array:
    """Transpose of `shift`: [..., R, N] to [..., R, N + R], with 0 at distances that do not occur in a row."""
    *lead, rows, positions = scores.shape
    flat = jnp.pad(scores, [(0, 0)] * len(lead) + [(0, 1), (rows - 1, 0)]).reshape(*lead, -1)
    width = positions + rows
    return flat[..., : rows * width].reshape(*lead, rows, width)


def product(axes: str, known: Array, other: Array) -> Array:
    """Einsum in the dtype of the first operand, accumulated in float32."""
    other = other.astype(known.dtype)
    if backends.scores_by_distance():
        # Cast first, which gives the same sums: on CPU, XLA has no bfloat16 product with a float32 result (jax 0.11).
        known, other = known.astype(jnp.float32), other.astype(jnp.float32)
    return jnp.einsum(axes, known, other, preferred_element_type=jnp.float32)


def score_product(axes: str, known: Array, other: Array) -> Array:
    """Einsum with N × N results, returned as float32. On a GPU it is stored in the dtype of the operands first."""
    if backends.scores_by_distance():
        return product(axes, known, other)
    return jnp.einsum(axes, known, other.astype(known.dtype)).astype(jnp.float32)


def relative_scores(query: Array, distances: Array) -> Array:
    """out[s, h, i, j] = query[s, h, i] · distances[R - 1 - i + j].

    Args:
        query: [sequences, H, R, K], queries of all positions or of a range of consecutive ones.
        distances: float32[N + R - 1, K], embeddings in order, from the distance of the last query to position 0.

    Returns:
        float32[sequences, H, R, N].
    """
    if backends.scores_by_distance():
        windows = _windows(distances, query.shape[2])
        distance_scores = product("bshrk,bmk->bshrm", row_blocks(query, len(windows)), windows)
        return joined_rows(shift(distance_scores), query.shape[2])
    return score_product("shik,kij->shij", query, _pairs(distances, query.shape[2]))


def relative_gradients(d_scores: Array, query: Array, distances: Array) -> tuple[Array, Array]:
    """Gradients of `relative_scores`.

    Args:
        d_scores: [sequences, H, R, N], gradient of the result.
        query: [sequences, H, R, K].
        distances: float32[N + R - 1, K].

    Returns:
        Gradients of the query, float32[sequences, H, R, K], and of the distances, float32[N + R - 1, K].
    """
    if backends.scores_by_distance():
        windows = _windows(distances, query.shape[2])
        d_distance = unshift(row_blocks(d_scores, len(windows)))
        d_query = product("bshrm,bmk->bshrk", d_distance, windows)
        # With the operands in this order, the product is two and a half times as fast on a CPU.
        d_windows = product("bshrk,bshrm->bkm", row_blocks(query, len(windows)), d_distance)
        return joined_rows(d_query, query.shape[2]), _unwindow(d_windows, query.shape[2])
    d_pairs = product("shij,shik->kij", d_scores, query)
    d_query = product("shij,kij->shik", d_scores, _pairs(distances, query.shape[2]))
    return d_query, jnp.sum(unshift(d_pairs), axis=1).T[:-1]


def _windows(distances: Array, rows: int) -> Array:
    """Embeddings of all distances in each block of rows, plus one unused: [N + R - 1, K] to [blocks, N + size, K].

    They begin with the distance of the block's last row to position 0.
    """
    count, size = equal_parts(rows, BLOCK)
    # Pad for the rows that the last block lacks, whose distances to position 0 would be larger than any.
    table = jnp.pad(distances, ((count * size - rows, 1), (0, 0)))
    reach = distances.shape[0] + 1 - rows + size
    return jnp.stack([table[first : first + reach] for first in reversed(range(0, count * size, size))])


def _unwindow(windows: Array, rows: int) -> Array:
    """Transpose of `_windows`, for transposed windows: [blocks, K, N + size] to [N + R - 1, K]."""
    count, width, reach = windows.shape
    size = -(-rows // count)
    table = jnp.zeros((width, reach + (count - 1) * size), windows.dtype)
    for first, window in zip(reversed(range(0, count * size, size)), windows, strict=True):
        table = table.at[:, first : first + reach].add(window)
    return table[:, count * size - rows : -1].T


def row_blocks(x: Array, count: int) -> Array:
    """Split rows into blocks, zero-padded: [sequences, H, R, C] to [count, sequences, H, size, C]."""
    sequences, heads, rows, columns = x.shape
    size = -(-rows // count)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, count * size - rows), (0, 0)))
    return jnp.moveaxis(x.reshape(sequences, heads, count, size, columns), 2, 0)


def joined_rows(blocks: Array, rows: int) -> Array:
    """Inverse of `row_blocks`, for arrays [count, sequences, H, size, ...]."""
    _, sequences, heads, _, *columns = blocks.shape
    return jnp.moveaxis(blocks, 0, 2).reshape(sequences, heads, -1, *columns)[:, :, :rows]


def _even(distances: Array) -> Array:
    """Append a row of zeros, which belongs to no distance."""
    return jnp.pad(distances, ((0, 1), (0, 0)))


def _pairs(distances: Array, rows: int) -> Array:
    """Embedding of the distance between each pair of positions: [N + R - 1, K] to [K, R, N]."""
    even = _even(distances).T
    return shift(jnp.broadcast_to(even[:, None], (even.shape[0], rows, even.shape[1])))
