"""Self-attention with relative positions (Shaw et al. 2018), in memory that does not grow with the square of N."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import GeneratorConfig
from cmgan_jax.models.layers import Dropout, dense, layer_norm

CHUNK_ELEMENTS = {"cpu": 40_000}
"""Scores per head computed at once: as many as stay in a core's cache (CPU, measured), or `CHUNK_DEFAULT`."""
CHUNK_DEFAULT = 2**26


def shift(scores: Array) -> Array:
    """Pick from a score per distance the score per position: out[i, j] = scores[i, N - 1 - i + j].

    Args:
        scores: [..., N, 2N - 1]; column m belongs to the distance i - j = N - 1 - m.

    Returns:
        [..., N, N], by one pad and reshape instead of a gather.
    """
    *lead, positions, span = scores.shape
    flat = jnp.pad(scores, [(0, 0)] * (len(lead) + 1) + [(0, 1)]).reshape(*lead, positions * (span + 1))
    flat = flat[..., positions - 1 : positions - 1 + positions * span]
    return flat.reshape(*lead, positions, span)[..., :positions]


def attend(query: Array, key: Array, value: Array, distances: Array, valid: Array | None = None) -> Array:
    """Softmax attention with a relative term for many independent sequences.

    Scores are computed for a few sequences at a time and again in the backward pass, so that they never leave the
    cache (CPU) or fill the memory (GPU).

    Args:
        query: [sequences, H, N, K].
        key: [sequences, H, N, K].
        value: [sequences, H, N, K].
        distances: [2N - 1, K], the embedding of distance N - 1 first and of 1 - N last.
        valid: bool[sequences, N], positions that may be attended to; None: all.

    Returns:
        [sequences, H, N, K]: softmax(K ** -0.5 · (q · k + q · distance)) · v.
    """
    positions, width = query.shape[-2:]
    scale = np.float32(width**-0.5)

    @jax.checkpoint
    def one(sequence: tuple[Array, ...]) -> Array:
        q, k, v, *mask = sequence
        q = q * scale
        scores = jnp.einsum("hik,hjk->hij", q, k) + shift(jnp.einsum("hik,mk->him", q, distances))
        if mask:
            scores = jnp.where(mask[0], scores, -jnp.inf)
        return jnp.einsum("hij,hjk->hik", nn.softmax(scores, axis=-1), v)

    elements = CHUNK_ELEMENTS.get(jax.default_backend(), CHUNK_DEFAULT)
    operands = (query, key, value) if valid is None else (query, key, value, valid)
    return jax.lax.map(one, operands, batch_size=min(query.shape[0], max(1, elements // positions**2)))


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
        x = layer_norm("norm")(x)
        query = dense(channels, channels, "query", use_bias=False)(x)
        key_value = dense(2 * channels, channels, "key_value", use_bias=False)(x)
        key, value = jnp.split(key_value, 2, axis=-1)
        query, key, value = (
            part.reshape(sequences, positions, heads, width).transpose(0, 2, 1, 3) for part in (query, key, value)
        )
        limit = self.config.max_distance
        table = self.param("positions", nn.initializers.normal(1.0), (2 * limit + 1, width))
        distances = np.clip(np.arange(positions - 1, -positions, -1), -limit, limit) + limit
        out = attend(query, key, value, table[distances], valid)
        out = out.transpose(0, 2, 1, 3).reshape(sequences, positions, channels)
        return Dropout(self.config.dropout, self.axis_name)(dense(channels, channels, "output")(out), train)
