"""Self-attention with relative positions (Shaw et al. 2018), in memory that does not grow with the square of N."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import GeneratorConfig
from cmgan_jax.models.chunks import by_chunks
from cmgan_jax.models.layers import Dropout, dense, layer_norm


def shift(scores: Array) -> Array:
    """Pick from a score per distance the score per position: out[i, j] = scores[i, N - 1 - i + j].

    Args:
        scores: [..., N, 2N]; column m belongs to the distance i - j = N - 1 - m, the last one to none.

    Returns:
        [..., N, N], by reading the same memory with rows one shorter, instead of a gather.
    """
    *lead, positions, _ = scores.shape
    span = 2 * positions - 1
    flat = scores.reshape(*lead, positions * 2 * positions)[..., : positions * span]
    return flat.reshape(*lead, positions, span)[..., positions - 1 :]


def unshift(scores: Array) -> Array:
    """The transpose of `shift`: [..., N, N] to [..., N, 2N], 0 at distances that a row does not reach."""
    *lead, positions, _ = scores.shape
    flat = jnp.pad(scores, [(0, 0)] * len(lead) + [(0, 1), (positions - 1, 0)]).reshape(*lead, -1)
    return flat[..., : positions * 2 * positions].reshape(*lead, positions, 2 * positions)


@jax.custom_vjp
def attend(query: Array, key: Array, value: Array, distances: Array, valid: Array | None = None) -> Array:
    """Softmax attention with a relative term for many independent sequences.

    Scores and softmax are float32 whatever the operands are. They are computed for a few sequences at a time and again
    in the backward pass, so that they never leave the cache (CPU) or fill the memory (GPU).

    Args:
        query: [sequences, H, N, K].
        key: [sequences, H, N, K].
        value: [sequences, H, N, K].
        distances: float32[2N - 1, K], the embedding of distance N - 1 first and of 1 - N last.
        valid: bool[sequences, N], positions that may be attended to; None: all.

    Returns:
        [sequences, H, N, K]: softmax(K ** -0.5 · (q · k + q · distance)) · v.
    """
    return _attend_forward(query, key, value, distances, valid)[0]


def _product(axes: str, known: Array, other: Array) -> Array:
    """A product in the type of its first operand, summed up in float32."""
    return jnp.einsum(axes, known, other.astype(known.dtype), preferred_element_type=jnp.float32)


def _scores(query: Array, key: Array, distances: Array, valid: Array | None) -> Array:
    """One sequence's [H, N, N]."""
    query = (query * np.float32(query.shape[-1] ** -0.5)).astype(query.dtype)
    scores = _product("hik,hjk->hij", query, key) + shift(_product("hik,mk->him", query, distances))
    return scores if valid is None else jnp.where(valid, scores, -jnp.inf)


def _attend_forward(query: Array, key: Array, value: Array, distances: Array, valid: Array | None) -> tuple[Array, Any]:
    distances = jnp.pad(distances, ((0, 1), (0, 0)))

    def one(sequence: tuple[Any, ...]) -> tuple[Array, Array]:
        q, k, v, mask = sequence
        scores = _scores(q, k, distances, mask)
        largest = jnp.max(scores, axis=-1)
        weights = jnp.exp(scores - largest[..., None])
        total = jnp.sum(weights, axis=-1)
        out = _product("hij,hjk->hik", weights.astype(v.dtype), v) / total[..., None]
        return out.astype(q.dtype), largest + jnp.log(total)

    out, normaliser = by_chunks(one, (query, key, value, valid), query.shape[-2] ** 2)
    return out, (query, key, value, distances, valid, out, normaliser)


def _attend_backward(residual: Any, gradient: Array) -> tuple[Array, Array, Array, Array, None]:
    *operands, out, normaliser = residual
    query, key, value, distances, valid = operands
    scale = np.float32(query.shape[-1] ** -0.5)

    def one(sequence: tuple[Any, ...]) -> tuple[Array, ...]:
        q, k, v, mask, o, log_total, g = sequence
        # From the saved logarithm of the sum the probabilities come in one pass, without another maximum.
        weights = jnp.exp(_scores(q, k, distances, mask) - log_total[..., None])
        of_weights = _product("hik,hjk->hij", g, v)
        along = jnp.sum(g.astype(jnp.float32) * o.astype(jnp.float32), axis=-1, keepdims=True)
        of_scores = (weights * (of_weights - along)).astype(q.dtype)
        by_distance = unshift(of_scores)
        of_query = _product("hij,hjk->hik", of_scores, k) + _product("him,mk->hik", by_distance, distances)
        return (
            (of_query * scale).astype(q.dtype),
            (_product("hij,hik->hjk", of_scores, q) * scale).astype(k.dtype),
            _product("hij,hik->hjk", weights.astype(g.dtype), g).astype(v.dtype),
            _product("him,hik->mk", by_distance, q) * scale,
        )

    of_query, of_key, of_value, of_distances = by_chunks(
        one, (query, key, value, valid, out, normaliser, gradient), query.shape[-2] ** 2
    )
    return of_query, of_key, of_value, jnp.sum(of_distances, axis=0)[:-1], None


attend.defvjp(_attend_forward, _attend_backward)


class RelativeAttention(nn.Module):
    """Pre-normed multi-head self-attention with one table of relative positions shared by the heads."""

    config: GeneratorConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool, valid: Array | None = None) -> Array:
        """Attend along N.

        Args:
            x: [sequences, N, C].
            train: whether dropout is on.
            valid: bool[sequences, N], positions that exist; None: all.

        Returns:
            [sequences, N, C], without the residual.
        """
        sequences, positions, channels = x.shape
        heads, width = self.config.heads, channels // self.config.heads
        x = layer_norm(x, "norm")
        query = dense(x, channels, "query", use_bias=False)
        key_value = dense(x, 2 * channels, "key_value", use_bias=False)
        key, value = jnp.split(key_value, 2, axis=-1)
        query, key, value = (
            part.reshape(sequences, positions, heads, width).transpose(0, 2, 1, 3) for part in (query, key, value)
        )
        limit = self.config.max_distance
        table = self.param("positions", nn.initializers.normal(1.0), (2 * limit + 1, width))
        distances = np.clip(np.arange(positions - 1, -positions, -1), -limit, limit) + limit
        out = attend(query, key, value, table[distances], valid)
        out = out.transpose(0, 2, 1, 3).reshape(sequences, positions, channels)
        return Dropout(self.config.dropout, self.axis_name)(dense(out, channels, "output"), train)
