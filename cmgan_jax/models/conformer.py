"""The conformer of CMGAN (Cao et al. 2022, figure 1b): half feed-forward, attention, convolution, half feed-forward."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cmgan_jax.config import GeneratorConfig
from cmgan_jax.models import backends
from cmgan_jax.models.attention import RelativeAttention
from cmgan_jax.models.chunks import Chunks, kept
from cmgan_jax.models.depthwise import depthwise
from cmgan_jax.models.layers import BatchNorm, Dense, Dropout, LayerNorm, row_indices, uniform_bias

HALF = 0.5
"""Weight of the half-step (Macaron) feed-forward residual."""


class FeedForward(nn.Module):
    """Half-step feed-forward with residual: layer norm, expansion, SiLU, dropout, contraction, dropout."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, x: Array, row_ids: Array, train: bool) -> Array:
        """[sequences, N, C] -> [sequences, N, C]; row_ids: see `Dropout`."""
        channels, rate = x.shape[-1], self.config.dropout if train else 0.0
        hidden = channels * self.config.feed_forward_factor
        norm, expand, contract = LayerNorm(name="norm"), Dense(hidden, name="expand"), Dense(channels, name="contract")
        inner, outer = Dropout(rate), Dropout(rate)
        if backends.uses_kernels(self.config.backend):
            from cmgan_jax.models.kernels.feed_forward import FeedForwardWeights, feed_forward
            from cmgan_jax.models.kernels.launch import fits

            if fits(channels, hidden):
                dense = *expand.parameters(channels), *contract.parameters(hidden)
                weights = FeedForwardWeights(*norm.parameters(channels), *dense)
                seeds = jnp.concatenate([inner.seeds(), outer.seeds()])
                return feed_forward(x, weights, seeds, row_ids, HALF, rate)
        wide = inner(nn.silu(expand(norm(x))), row_ids, train)
        return x + HALF * outer(contract(wide), row_ids, train)


class Convolution(nn.Module):
    """Convolution module: layer norm, pointwise, GLU, depthwise, batch norm, SiLU, pointwise.

    It is split into two parts, because batch norm needs the statistics of all sequences before any can be normalised.
    """

    config: GeneratorConfig
    batchnorm_axis: str | None = None

    def setup(self) -> None:
        """Create submodules and parameters."""
        c = self.config
        inner = c.channels * c.convolution_factor
        self.norm = LayerNorm()
        self.expand = Dense(2 * inner)
        self.depthwise_kernel = self.param("depthwise_kernel", uniform_bias(c.kernel), (c.kernel, inner))
        self.depthwise_bias = self.param("depthwise_bias", uniform_bias(c.kernel), (inner,))
        self.batch_norm = BatchNorm(inner, self.batchnorm_axis)
        self.contract = Dense(c.channels)

    def before_norm(self, x: Array, valid: Array | None) -> Array:
        """[sequences, N, C] -> [sequences, N, inner]; positions outside valid: bool[sequences, N] are padding."""
        x = self._gated(x)
        if valid is not None:
            x = jnp.where(valid[..., None], x, 0.0)
        # Batch norm subtracts the bias again, so its gradient is 0; `Conv` explains why it is stopped.
        convolved = depthwise(x, self.depthwise_kernel, self.config.backend)
        return (convolved + jax.lax.stop_gradient(self.depthwise_bias)).astype(x.dtype)

    def _gated(self, x: Array) -> Array:
        """[sequences, N, C] -> [sequences, N, inner]."""
        channels = x.shape[-1]
        if backends.uses_kernels(self.config.backend):
            from cmgan_jax.models.kernels.gated import GatedWeights, gated
            from cmgan_jax.models.kernels.launch import fits

            if fits(channels, self.expand.features // 2):
                return gated(x, GatedWeights(*self.norm.parameters(channels), *self.expand.parameters(channels)))
        return nn.glu(self.expand(self.norm(x)))

    def after_norm(self, x: Array, moments: tuple[Array, Array]) -> Array:
        """[sequences, N, inner] -> [sequences, N, C], without the residual; moments: from `batch_norm`."""
        return self.contract(nn.silu(self.batch_norm.normalise(x, moments)))


class Conformer(nn.Module):
    """One conformer over sequences, with a residual around each of its modules.

    Attributes:
        config: widths and rates.
        axis_name: mapped axis that splits the batch, needed by dropout; None: the batch is not split.
        batchnorm_axis: mapped axis over which batch norm shares its statistics; None: each device uses its own.
    """

    config: GeneratorConfig
    axis_name: str | None = None
    batchnorm_axis: str | None = None

    def setup(self) -> None:
        """Create submodules and parameters."""
        c = self.config
        self.feed_forward_1, self.feed_forward_2 = FeedForward(c), FeedForward(c)
        self.attention = RelativeAttention(c)
        self.convolution = Convolution(c, self.batchnorm_axis)
        self.norm = LayerNorm()

    def __call__(self, x: Array, train: bool, valid: Array | None = None) -> Array:
        """[sequences, N, C] -> [sequences, N, C]; valid: bool[sequences, N] or None."""
        sequences, positions, channels = x.shape
        largest = max(self.config.heads * positions, channels * self.config.feed_forward_factor) * positions
        chunks = Chunks(sequences, 1, sequences) if self.is_initializing() else Chunks.of(sequences, largest)
        x, row_ids, valid = chunks.cut((x, row_indices(sequences, self.axis_name), valid))
        distances = self.attention.distances(positions)
        x, inner = self._map(Conformer.before_norm, chunks, (x, row_ids, valid), distances, train)
        moments = self.convolution.batch_norm.moments(inner, train, chunks.counted)
        return chunks.join(self._map(Conformer.after_norm, chunks, (x, row_ids, inner), moments, train))

    def before_norm(self, x: Array, row_ids: Array, valid: Array | None, distances: Array, train: bool) -> Any:
        """Compute the part up to the depthwise convolution: [sequences, N, C] and [sequences, N, inner]."""
        x = kept(self.feed_forward_1(x, row_ids, train))
        x = x + self.attention(x, row_ids, distances, train, valid)
        return x, self.convolution.before_norm(x, valid)

    def after_norm(self, x: Array, row_ids: Array, inner: Array, moments: tuple[Array, Array], train: bool) -> Array:
        """Compute the part from batch norm on: [sequences, N, C]."""
        x = kept(x + self.convolution.after_norm(inner, moments))
        x = kept(self.feed_forward_2(x, row_ids, train))
        return self.norm(x)

    def _map(
        self, method: Callable[..., Any], chunks: Chunks, operands: tuple[Any, ...], shared: Any, train: bool
    ) -> Any:
        """Map a method over the chunks; `shared` is passed to every call."""
        if self.is_initializing():
            one = method(self, *jax.tree.map(lambda x: x[0], operands), shared, train)
            return jax.tree.map(lambda x: x[None], one)
        rngs = {"dropout": self.make_rng("dropout")} if train and self.config.dropout else None
        # Use an unbound copy of the module with the same variables: JAX cannot loop over a bound module.
        alone = partial(self.clone(parent=None).apply, dict(self.variables), method=method, rngs=rngs)
        return chunks.map(lambda *chunk: alone(*chunk, shared, train), operands, self.config.recompute)
