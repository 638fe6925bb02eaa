"""Scores of queries against the distance to each position, and their gradients, in two forms.

By distance: a product for each block of rows with the embeddings that the block reaches, from which each row reads its
N by a shift. It moves a little more than it needs, all of it within reach of a CPU's caches. By pair: N products, one
for each row, with the embeddings that the row needs; nothing is shifted but a table that all sequences share. On a GPU
memory is what a step waits for.
"""

import jax.numpy as jnp
from jax import Array

from cmgan_jax.models import backends
from cmgan_jax.models.chunks import equal_parts

BLOCK = 64
"""Rows of a block at most, in that form (CPU, measured)."""


def shift(scores: Array) -> Array:
    """Pick from a score per distance the score per position: out[i, j] = scores[i, R - 1 - i + j].

    Args:
        scores: [..., R, N + R]; column m belongs to the distance i - j = R - 1 - m, the last one to none.

    Returns:
        [..., R, N], by reading the same memory with rows one shorter, instead of a gather.
    """
    *lead, rows, width = scores.shape
    flat = scores.reshape(*lead, rows * width)[..., : rows * (width - 1)]
    return flat.reshape(*lead, rows, width - 1)[..., rows - 1 :]


def unshift(scores: Array) -> Array:
    """The transpose of `shift`: [..., R, N] to [..., R, N + R], 0 at distances that a row does not reach."""
    *lead, rows, positions = scores.shape
    flat = jnp.pad(scores, [(0, 0)] * len(lead) + [(0, 1), (rows - 1, 0)]).reshape(*lead, -1)
    width = positions + rows
    return flat[..., : rows * width].reshape(*lead, rows, width)


def product(axes: str, known: Array, other: Array) -> Array:
    """A product in the type of its first operand, summed up in float32."""
    other = other.astype(known.dtype)
    if backends.scores_by_distance():
        # The same sums. XLA's CPU runtime has no product of two bfloat16 that gives float32 (jax 0.11).
        known, other = known.astype(jnp.float32), other.astype(jnp.float32)
    return jnp.einsum(axes, known, other, preferred_element_type=jnp.float32)


def score_product(axes: str, known: Array, other: Array) -> Array:
    """A product with N × N results, float32. On its way through a GPU's memory it has the type of its operands."""
    if backends.scores_by_distance():
        return product(axes, known, other)
    return jnp.einsum(axes, known, other.astype(known.dtype)).astype(jnp.float32)


def relative_scores(query: Array, distances: Array) -> Array:
    """out[s, h, i, j] = query[s, h, i] · distances[R - 1 - i + j].

    Args:
        query: [sequences, H, R, K], of all positions or of some that follow one another.
        distances: float32[N + R - 1, K], from that of the last of them to the first position on.

    Returns:
        float32[sequences, H, R, N].
    """
    if backends.scores_by_distance():
        windows = _windows(distances, query.shape[2])
        distance_scores = product("bshrk,bmk->bshrm", row_blocks(query, len(windows)), windows)
        return joined_rows(shift(distance_scores), query.shape[2])
    return score_product("shik,kij->shij", query, _pairs(distances, query.shape[2]))


def relative_gradients(d_scores: Array, query: Array, distances: Array) -> tuple[Array, Array]:
    """What `relative_scores` turns a gradient into.

    Args:
        d_scores: [sequences, H, R, N].
        query: [sequences, H, R, K].
        distances: float32[N + R - 1, K].

    Returns:
        float32[sequences, H, R, K] of the query, float32[N + R - 1, K] of the distances.
    """
    if backends.scores_by_distance():
        windows = _windows(distances, query.shape[2])
        d_distance = unshift(row_blocks(d_scores, len(windows)))
        d_query = product("bshrm,bmk->bshrk", d_distance, windows)
        # In this order the product is two and a half times as fast on a CPU.
        d_windows = product("bshrk,bshrm->bkm", row_blocks(query, len(windows)), d_distance)
        return joined_rows(d_query, query.shape[2]), _unwindow(d_windows, query.shape[2])
    d_pairs = product("shij,shik->kij", d_scores, query)
    d_query = product("shij,kij->shik", d_scores, _pairs(distances, query.shape[2]))
    return d_query, jnp.sum(unshift(d_pairs), axis=1).T[:-1]


def _windows(distances: Array, rows: int) -> Array:
    """Embeddings that each block of rows reaches, from its last row to the first position on, and one that none does.

    [N + R - 1, K] to [blocks, N + size, K].
    """
    count, size = equal_parts(rows, BLOCK)
    # What the last block lacks would be farther from the first position than any.
    table = jnp.pad(distances, ((count * size - rows, 1), (0, 0)))
    reach = distances.shape[0] + 1 - rows + size
    return jnp.stack([table[first : first + reach] for first in reversed(range(0, count * size, size))])


def _unwindow(windows: Array, rows: int) -> Array:
    """The transpose of `_windows`, of its transposes: [blocks, K, N + size] to [N + R - 1, K]."""
    count, width, reach = windows.shape
    size = -(-rows // count)
    table = jnp.zeros((width, reach + (count - 1) * size), windows.dtype)
    for first, window in zip(reversed(range(0, count * size, size)), windows, strict=True):
        table = table.at[:, first : first + reach].add(window)
    return table[:, count * size - rows : -1].T


def row_blocks(x: Array, count: int) -> Array:
    """[sequences, H, R, C] to [count, sequences, H, size, C], zeros where the last block lacks rows."""
    sequences, heads, rows, columns = x.shape
    size = -(-rows // count)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, count * size - rows), (0, 0)))
    return jnp.moveaxis(x.reshape(sequences, heads, count, size, columns), 2, 0)


def joined_rows(blocks: Array, rows: int) -> Array:
    """The inverse of `row_blocks`, of arrays [count, sequences, H, size, ...]."""
    _, sequences, heads, _, *columns = blocks.shape
    return jnp.moveaxis(blocks, 0, 2).reshape(sequences, heads, -1, *columns)[:, :, :rows]


def _even(distances: Array) -> Array:
    """With a last row of zeros, which belongs to no distance."""
    return jnp.pad(distances, ((0, 1), (0, 0)))


def _pairs(distances: Array, rows: int) -> Array:
    """Embeddings of the distance of each pair of positions: [N + R - 1, K] to [K, R, N]."""
    even = _even(distances).T
    return shift(jnp.broadcast_to(even[:, None], (even.shape[0], rows, even.shape[1])))
