"""Scores of queries against the distance to each position, and their gradients, in two forms.

By distance: one product with the 2N - 1 embeddings, from which each row reads its N by a shift. It moves twice as
much as it needs, all of it within reach of a CPU's caches. By pair: N products, one for each row, with the embeddings
that the row needs; nothing is shifted but a table that all sequences share. On a GPU memory is what a step waits for.
"""

import jax
import jax.numpy as jnp
from jax import Array

BY_DISTANCE = ("cpu",)
"""Where the first form is the faster."""


def by_distance() -> bool:
    """Whether the device that programs are made for computes by distance."""
    return jax.default_backend() in BY_DISTANCE


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
    if by_distance():
        # The same sums. XLA's CPU runtime has no product of two bfloat16 that gives float32 (jax 0.11).
        known, other = known.astype(jnp.float32), other.astype(jnp.float32)
    return jnp.einsum(axes, known, other, preferred_element_type=jnp.float32)


def score_product(axes: str, known: Array, other: Array) -> Array:
    """A product with N × N results, float32. On its way through a GPU's memory it has the type of its operands."""
    if by_distance():
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
    if by_distance():
        return shift(product("shik,mk->shim", query, _even(distances)))
    return score_product("shik,kij->shij", query, _pairs(distances, query.shape[2]))


def relative_gradients(of_scores: Array, query: Array, distances: Array) -> tuple[Array, Array]:
    """What `relative_scores` turns a gradient into.

    Args:
        of_scores: [sequences, H, R, N].
        query: [sequences, H, R, K].
        distances: float32[N + R - 1, K].

    Returns:
        float32[sequences, H, R, K] of the query, float32[N + R - 1, K] of the distances.
    """
    if by_distance():
        of_distance = unshift(of_scores)
        # In this order the second product is two and a half times as fast on a CPU.
        return (
            product("shim,mk->shik", of_distance, _even(distances)),
            product("shik,shim->km", query, of_distance).T[:-1],
        )
    of_pairs = product("shij,shik->kij", of_scores, query)
    of_query = product("shij,kij->shik", of_scores, _pairs(distances, query.shape[2]))
    return of_query, jnp.sum(unshift(of_pairs), axis=1).T[:-1]


def _even(distances: Array) -> Array:
    """With a last row of zeros, which belongs to no distance."""
    return jnp.pad(distances, ((0, 1), (0, 0)))


def _pairs(distances: Array, rows: int) -> Array:
    """Embeddings of the distance of each pair of positions: [N + R - 1, K] to [K, R, N]."""
    even = _even(distances).T
    return shift(jnp.broadcast_to(even[:, None], (even.shape[0], rows, even.shape[1])))
