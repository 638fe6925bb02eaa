"""Self-attention with relative positions (Shaw et al. 2018)."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import GeneratorConfig
from cmgan_jax.models import backends
from cmgan_jax.models.chunks import chunk_elements, equal_parts, kept
from cmgan_jax.models.layers import Dense, Dropout, LayerNorm
from cmgan_jax.models.relative import (
    joined_rows,
    product,
    relative_gradients,
    relative_scores,
    row_blocks,
    score_product,
)


@jax.custom_vjp
def attend(query: Array, key: Array, value: Array, distances: Array, valid: Array | None = None) -> Array:
    """Softmax attention with relative position embeddings.

    Scores are accumulated and the softmax is computed in float32, whatever the dtype of the operands. The backward
    pass recomputes the scores and uses the saved output and log-sum-exp of each row (`chunks.KEPT`). The forward pass
    processes only as many rows at a time as have scores that fit the cache, which matters for long recordings; the
    backward pass processes all rows at once.

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


def _scores(query: Array, key: Array, distances: Array, valid: Array | None) -> Array:
    """Masked attention scores, float32[sequences, H, R, N]."""
    query = (query * np.float32(query.shape[-1] ** -0.5)).astype(query.dtype)
    scores = score_product("shik,shjk->shij", query, key) + relative_scores(query, distances)
    return scores if valid is None else jnp.where(valid[:, None, None], scores, -jnp.inf)


def _attend_forward(query: Array, key: Array, value: Array, distances: Array, valid: Array | None) -> tuple[Array, Any]:
    out, log_total = map(kept, _by_rows(query, key, value, distances, valid))
    return out, (query, key, value, distances, valid, out, log_total)


def _by_rows(query: Array, key: Array, value: Array, distances: Array, valid: Array | None) -> tuple[Array, Array]:
    """Apply `_rows` to blocks of query positions whose scores fit the cache."""
    sequences, heads, positions, _ = query.shape
    count, size = equal_parts(positions, chunk_elements() // (sequences * heads * positions))
    if count == 1:
        return _rows(query, key, value, distances, valid)
    lacking = count * size - positions
    # Padding rows lie beyond the last position, at distances larger than any real one; their results are discarded.
    distances = jnp.pad(distances, ((lacking, 0), (0, 0)))

    def block(index: Array, rows: Array) -> tuple[Array, Array]:
        first = (count - 1 - index) * size
        return _rows(rows, key, value, jax.lax.dynamic_slice_in_dim(distances, first, positions + size - 1), valid)

    out, log_total = jax.lax.map(lambda operands: block(*operands), (jnp.arange(count), row_blocks(query, count)))
    return joined_rows(out, positions), joined_rows(log_total, positions)


def _rows(query: Array, key: Array, value: Array, distances: Array, valid: Array | None) -> tuple[Array, Array]:
    """Attention of queries [sequences, H, R, K] to all positions, and its log-sum-exp, float32[sequences, H, R]."""
    scores = _scores(query, key, distances, valid)
    largest = jnp.max(scores, axis=-1)
    weights = jnp.exp(scores - largest[..., None])
    total = jnp.sum(weights, axis=-1)
    out = product("shij,shjk->shik", weights.astype(value.dtype), value) / total[..., None]
    return out.astype(query.dtype), largest + jnp.log(total)


def _attend_backward(residual: Any, gradient: Array) -> tuple[Array, Array, Array, Array, None]:
    query, key, value, distances, valid, out, log_total = residual
    scale = np.float32(query.shape[-1] ** -0.5)
    # With the saved log-sum-exp, the probabilities take one pass and no maximum.
    weights = jnp.exp(_scores(query, key, distances, valid) - log_total[..., None])
    d_weights = score_product("shik,shjk->shij", gradient, value)
    along = jnp.sum(gradient.astype(jnp.float32) * out.astype(jnp.float32), axis=-1, keepdims=True)
    d_scores = (weights * (d_weights - along)).astype(query.dtype)
    d_relative, d_distances = relative_gradients(d_scores, query, distances)
    return (
        ((product("shij,shjk->shik", d_scores, key) + d_relative) * scale).astype(query.dtype),
        (product("shij,shik->shjk", d_scores, query) * scale).astype(key.dtype),
        product("shij,shik->shjk", weights.astype(gradient.dtype), gradient).astype(value.dtype),
        d_distances * scale,
        None,
    )


attend.defvjp(_attend_forward, _attend_backward)


class RelativeAttention(nn.Module):
    """Pre-norm multi-head self-attention with one table of relative position embeddings, shared by all heads."""

    config: GeneratorConfig

    def setup(self) -> None:
        """Create submodules and parameters."""
        c = self.config
        self.norm = LayerNorm()
        self.query = Dense(c.channels, use_bias=False)
        self.key_value = Dense(2 * c.channels, use_bias=False)
        self.output = Dense(c.channels)
        self.positions = self.param(
            "positions", nn.initializers.normal(1.0), (2 * c.max_distance + 1, c.channels // c.heads)
        )
        self.dropout = Dropout(c.dropout)

    def distances(self, positions: int) -> Array:
        """Relative position embeddings for `attend`; distances beyond `max_distance` are clamped to it."""
        limit = self.config.max_distance
        reach = min(positions - 1, limit)
        near = self.positions[limit - reach : limit + reach + 1][::-1]
        return jnp.pad(near, ((positions - 1 - reach,) * 2, (0, 0)), mode="edge")

    def __call__(self, x: Array, row_ids: Array, distances: Array, train: bool, valid: Array | None = None) -> Array:
        """Attend along N.

        Args:
            x: [sequences, N, C].
            row_ids: uint32[sequences], number of each sequence in the global batch; see `Dropout`.
            distances: embeddings for N positions, from `distances`.
            train: whether to apply dropout.
            valid: bool[sequences, N], positions that exist; None: all.

        Returns:
            [sequences, N, C], without the residual.
        """
        sequences, positions, channels = x.shape
        heads, width = self.config.heads, channels // self.config.heads
        x = self.norm(x)
        if backends.uses_kernels(self.config.backend):
            from cmgan_jax.models.kernels.attention import attend as fused

            parts = (part.parameters(channels)[0].astype(x.dtype) for part in (self.query, self.key_value))
            joined = x.reshape(-1, channels) @ jnp.concatenate(list(parts), axis=-1)
            out = cast(Array, fused(kept(joined.reshape(sequences, positions, -1)), distances, valid, heads))
            return self.dropout(self.output(out), row_ids, train)
        query, (key, value) = self.query(x), jnp.split(self.key_value(x), 2, axis=-1)
        query, key, value = (
            kept(part.reshape(sequences, positions, heads, width).transpose(0, 2, 1, 3)) for part in (query, key, value)
        )
        out = attend(query, key, value, distances, valid)
        out = out.transpose(0, 2, 1, 3).reshape(sequences, positions, channels)
        return self.dropout(self.output(out), row_ids, train)
