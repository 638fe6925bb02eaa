"""Layers that must match PyTorch's arithmetic, or that are faster than Flax's own. All are channels-last.

A layer computes products and returns its result in the dtype of its input, float32 or bfloat16. Parameters are float32
and cast where they are used; norms, biases, slopes and sums over many terms are computed in float32 for any input.

The masks of `Dropout` depend neither on the number of devices nor on how many rows are computed at once.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import Backend
from cmgan_jax.models.chunks import kept
from cmgan_jax.models.convolution import Padding, convolve


class Dropout(nn.Module):
    """Dropout whose mask is a hash of each element's index in the global batch.

    Hashing a counter is far cheaper than a random generator. Because the counter runs over the *global* batch, the
    masks depend neither on how many devices share it nor on how many rows are computed at once. The hash is the 32-bit
    finaliser of MurmurHash3.

    Attributes:
        rate: probability that an element is set to 0.
    """

    rate: float

    def seeds(self) -> Array:
        """Seeds of the hash, uint32[2]; zeros if the rate is 0."""
        return jax.random.bits(self.make_rng("dropout"), (2,), jnp.uint32) if self.rate else jnp.zeros(2, jnp.uint32)

    @nn.compact
    def __call__(self, x: Array, row_ids: Array, train: bool) -> Array:
        """Apply dropout.

        Args:
            x: [rows, ...].
            row_ids: uint32[rows], index of each row in the global batch, from `row_indices`.
            train: whether to apply dropout.
        """
        if not train or self.rate == 0.0:
            return x
        seeds = self.seeds()
        element = np.arange(x[0].size, dtype=np.uint32).reshape(x.shape[1:])
        # Add the seed to the counter: otherwise the counter would be the same for all blocks, and XLA would store it.
        counter = jnp.expand_dims(row_ids * np.uint32(x[0].size) + seeds[0], tuple(range(1, x.ndim))) + element
        bits = _mix(_mix(counter) ^ seeds[1])
        keep = bits >= np.uint32(self.rate * 2**32)
        return jax.lax.select(keep, x / (1 - self.rate), jnp.zeros_like(x))


def row_indices(rows: int, axis_name: str | None) -> Array:
    """Indices of a device's rows in the global batch, uint32[rows]; axis_name: mapped axis that splits it, or None."""
    row_ids = jnp.arange(rows, dtype=jnp.uint32)
    if axis_name is not None:
        row_ids += jax.lax.axis_index(axis_name).astype(jnp.uint32) * np.uint32(rows)
    return row_ids


def _mix(bits: Array) -> Array:
    bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


EPSILON = 1e-5
"""Constant added to the variance in every norm of the model."""

# PyTorch's default initialiser: uniform in ±1 / sqrt(fan_in), for weights and biases alike.
uniform_kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def uniform_bias(fan_in: int) -> Callable[..., Array]:
    """Make the initialiser of a bias of a layer with `fan_in` inputs per output."""

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        bound = 1 / np.sqrt(fan_in)
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return init


class Dense(nn.Module):
    """Linear layer over the last axis, with PyTorch's initial distribution."""

    features: int
    use_bias: bool = True

    @nn.compact
    def parameters(self, channels: int) -> tuple[Array, ...]:
        """Kernel float32[C, features], and bias float32[features] where there is one."""
        kernel = self.param("kernel", uniform_kernel, (channels, self.features))
        if not self.use_bias:
            return (kernel,)
        return kernel, self.param("bias", uniform_bias(channels), (self.features,))

    def __call__(self, x: Array) -> Array:
        """[..., C] -> [..., features]."""
        kernel, *bias = self.parameters(x.shape[-1])
        # Flatten the leading axes: a kernel gradient over several axes adds a fifth to a feed-forward's time (CPU).
        rows = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
        out = rows.reshape(*x.shape[:-1], self.features)
        # Add the bias in float32, because its gradient sums over all positions.
        return (out + bias[0]).astype(x.dtype) if bias else out


class LayerNorm(nn.Module):
    """Layer norm over the last axis, with the variance computed in two passes, as in the reference."""

    @nn.compact
    def parameters(self, channels: int) -> tuple[Array, Array]:
        """Scale and bias, float32[C]."""
        return (
            self.param("scale", nn.initializers.ones, (channels,)),
            self.param("bias", nn.initializers.zeros, (channels,)),
        )

    def __call__(self, x: Array) -> Array:
        """[..., C] -> [..., C]."""
        scale, bias = self.parameters(x.shape[-1])
        wide = x.astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return (centred * (jax.lax.rsqrt(variance + EPSILON) * scale) + bias).astype(x.dtype)


class _Weights(nn.Module):
    """Kernel [time taps, frequency taps, inputs, features] and bias [features] of a convolution, float32."""

    shape: tuple[int, int, int, int]

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        *fan, features = self.shape
        kernel = self.param("kernel", uniform_kernel, self.shape)
        return kernel, self.param("bias", uniform_bias(int(np.prod(fan))), (features,))


class Conv(nn.Module):
    """Two-dimensional convolution over (time, frequency) with explicit padding.

    Attributes:
        features: number of output channels.
        kernel: (time, frequency) extent.
        padding: ((before, after) in time, (before, after) in frequency).
        stride: step in frequency.
        dilation: step in time between taps.
        before_norm: whether a norm follows that subtracts each channel's mean.
        backend: see `GeneratorConfig`.
    """

    features: int
    kernel: tuple[int, int]
    padding: Padding = ((0, 0), (0, 0))
    stride: int = 1
    dilation: int = 1
    before_norm: bool = False
    backend: Backend = "auto"

    @nn.compact
    def __call__(self, *parts: Array) -> Array:
        """Inputs [B, T, F, C], taken as concatenated along the channels -> [B, T', F', features]."""
        inputs, kind = sum(part.shape[-1] for part in parts), parts[0].dtype
        kernel, bias = _Weights((*self.kernel, inputs, self.features), name="conv")()
        if self.before_norm:
            # The norm subtracts the bias again, so its true gradient is 0. The computed gradient would be rounding
            # noise, which Adam scales to full steps, and which depends on the number of devices.
            bias = jax.lax.stop_gradient(bias)
        how = self.stride, self.padding, self.dilation, self.backend
        convolved = cast(Array, convolve(parts, kernel.astype(kind), *how))
        # Add the bias in float32, because its gradient sums over all positions.
        return kept((convolved + bias).astype(kind))


class PReLU(nn.Module):
    """Parametric ReLU: x where positive, slope · x elsewhere, with one slope per entry of the last axis."""

    initial: float = 0.25

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply the activation to an array of any shape."""
        slope = self.param("slope", nn.initializers.constant(self.initial), (x.shape[-1],))
        return jnp.where(x > 0, x, (slope * x).astype(x.dtype))


class InstanceNorm(nn.Module):
    """Affine norm over time and frequency of each item and channel, with biased variance, also in evaluation."""

    @nn.compact
    def __call__(self, x: Array, valid: Array | None = None) -> Array:
        """Normalise.

        Args:
            x: [B, T, F, C].
            valid: bool[B, T], mask of valid frames; None: all are valid.

        Returns:
            [B, T, F, C]; invalid frames hold finite but meaningless values.
        """
        channels, kind = x.shape[-1], x.dtype
        x = x.astype(jnp.float32)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        if valid is None:
            mean = jnp.mean(x, axis=(1, 2), keepdims=True)
            variance = jnp.mean(jnp.square(x - mean), axis=(1, 2), keepdims=True)
        else:
            weight = valid[:, :, None, None] / (x.shape[2] * jnp.sum(valid, axis=1)[:, None, None, None])
            mean = jnp.sum(x * weight, axis=(1, 2), keepdims=True)
            variance = jnp.sum(jnp.square(x - mean) * weight, axis=(1, 2), keepdims=True)
        return ((x - mean) * (jax.lax.rsqrt(variance + EPSILON) * scale) + bias).astype(kind)


class BatchNorm(nn.Module):
    """Batch norm as in PyTorch: it normalises with the biased variance and tracks the unbiased one.

    Attributes:
        channels: C.
        axis_name: mapped axis over which statistics are shared; None: each device uses its own.
        momentum: weight of the new statistic (PyTorch's convention; Flax uses the complement).
    """

    channels: int
    axis_name: str | None = None
    momentum: float = 0.1

    def setup(self) -> None:
        """Create parameters and running statistics."""
        self.scale = self.param("scale", nn.initializers.ones, (self.channels,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        self.running_mean = self.variable("batch_stats", "mean", jnp.zeros, (self.channels,))
        self.running_variance = self.variable("batch_stats", "variance", jnp.ones, (self.channels,))

    def __call__(self, x: Array, train: bool) -> Array:
        """[..., C] -> [..., C]; in training, the batch's statistics are used and `batch_stats` is updated."""
        return self.normalise(x, self.moments(x, train))

    def moments(self, x: Array, train: bool, counted: np.ndarray | None = None) -> tuple[Array, Array]:
        """Mean and variance to normalise with; in training, those of x, which also update the running statistics.

        Args:
            x: [..., C].
            train: whether the model is in training mode.
            counted: float32 over leading axes of x, 1 for entries that count and 0 for padding; None: all count.

        Returns:
            float32[C] each.
        """
        if not train:
            return self.running_mean.value, self.running_variance.value
        share = 1.0 if counted is None else float(np.mean(counted))
        mean, variance = self._of_batch(x, counted, share)
        if not self.is_initializing():
            count = round(share * x.size) // self.channels
            if self.axis_name is not None:
                count *= jax.lax.axis_size(self.axis_name)
            unbiased = variance * (count / max(count - 1, 1))
            self.running_mean.value += self.momentum * (mean - self.running_mean.value)
            self.running_variance.value += self.momentum * (unbiased - self.running_variance.value)
        return mean, variance

    def normalise(self, x: Array, moments: tuple[Array, Array]) -> Array:
        """[..., C] -> [..., C], normalised with the result of `moments`."""
        mean, variance = moments
        normal = (x.astype(jnp.float32) - mean) * (jax.lax.rsqrt(variance + EPSILON) * self.scale) + self.bias
        return normal.astype(x.dtype)

    def _of_batch(self, x: Array, counted: np.ndarray | None, share: float) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - 1))

        def mean(x: Array) -> Array:
            if counted is not None:
                x = x * counted.reshape(*counted.shape, *[1] * (x.ndim - counted.ndim))
            return self._across(jnp.mean(x, axes) / share)

        @jax.checkpoint
        def moments(x: Array) -> tuple[Array, Array]:
            x = x.astype(jnp.float32)
            centre = mean(x)
            return centre, mean(jnp.square(x - centre))

        return moments(x)

    def _across(self, statistic: Array) -> Array:
        if self.axis_name is None or self.is_initializing():
            return statistic
        return jax.lax.pmean(statistic, self.axis_name)
