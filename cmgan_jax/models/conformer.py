"""The conformer of CMGAN (Cao et al. 2022, figure 1b): half feed-forward, attention, convolution, half feed-forward."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cmgan_jax.config import GeneratorConfig
from cmgan_jax.models.attention import RelativeAttention
from cmgan_jax.models.layers import BatchNorm, Dropout, dense, depthwise, layer_norm, uniform_bias


class FeedForward(nn.Module):
    """Layer norm, expansion, SiLU, dropout, contraction, dropout."""

    config: GeneratorConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[sequences, N, C] -> [sequences, N, C], without the residual and its half."""
        channels = x.shape[-1]
        hidden = channels * self.config.feed_forward_factor
        x = dense(layer_norm(x, "norm"), hidden, "expand")
        x = Dropout(self.config.dropout, self.axis_name)(nn.silu(x), train)
        x = dense(x, channels, "contract")
        return Dropout(self.config.dropout, self.axis_name)(x, train)


class Convolution(nn.Module):
    """Layer norm, pointwise, GLU, depthwise, batch norm, SiLU, pointwise."""

    config: GeneratorConfig
    axis_name: str | None = None
    batchnorm_axis: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool, valid: Array | None = None) -> Array:
        """[sequences, N, C] -> [sequences, N, C]; positions outside valid: bool[sequences, N] count as padding."""
        channels = x.shape[-1]
        inner = channels * self.config.convolution_factor
        x = dense(layer_norm(x, "norm"), 2 * inner, "expand")
        x = nn.glu(x)
        if valid is not None:
            x = jnp.where(valid[..., None], x, 0.0)
        kernel = self.param("depthwise_kernel", uniform_bias(self.config.kernel), (self.config.kernel, inner))
        bias = self.param("depthwise_bias", uniform_bias(self.config.kernel), (inner,))
        # The batch's mean takes the bias away again. For why its gradient is not left to rounding see `Conv`.
        x = (depthwise(x, kernel) + jax.lax.stop_gradient(bias)).astype(x.dtype)
        x = BatchNorm(self.batchnorm_axis, name="batch_norm")(x, train)
        return dense(nn.silu(x), channels, "contract")


class Conformer(nn.Module):
    """One conformer over sequences, a residual around each of its parts.

    Attributes:
        config: widths and rates.
        axis_name: mapped axis that splits the batch (dropout's counter); None: not split.
        batchnorm_axis: mapped axis over which batch norm shares its statistics; None: each device its own.
    """

    config: GeneratorConfig
    axis_name: str | None = None
    batchnorm_axis: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool, valid: Array | None = None) -> Array:
        """[sequences, N, C] -> [sequences, N, C]; valid: bool[sequences, N] or None."""
        config, axis = self.config, self.axis_name
        x = x + 0.5 * FeedForward(config, axis, name="feed_forward_1")(x, train)
        x = x + RelativeAttention(config, axis, name="attention")(x, train, valid)
        x = x + Convolution(config, axis, self.batchnorm_axis, name="convolution")(x, train, valid)
        x = x + 0.5 * FeedForward(config, axis, name="feed_forward_2")(x, train)
        return layer_norm(x, "norm")
