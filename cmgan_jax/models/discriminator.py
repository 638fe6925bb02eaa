"""The metric discriminator of CMGAN: predicts the normalised score of an estimate, for PESQ (PESQ - 1) / 3.5."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cmgan_jax.config import DiscriminatorConfig
from cmgan_jax.models.layers import Dropout, InstanceNorm, PReLU, row_indices, uniform_bias, uniform_kernel
from cmgan_jax.shapes import check_shape

NORM_EPSILON = 1e-12
"""Lower bound of the norms that the power iteration divides by."""


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), NORM_EPSILON)


class SpectralNorm(nn.Module):
    """Divides a kernel by its largest singular value, estimated by one power iteration per training pass.

    See Miyato et al. 2018. The vectors `u` and `v` are stored in `batch_stats` and treated as constants by the
    gradient.
    """

    @nn.compact
    def __call__(self, kernel: Array, train: bool) -> Array:
        """[..., in, out] -> the same shape, with a spectral norm of about 1."""
        # Rows are outputs; columns are ordered by input, then by tap, as in the published checkpoints.
        matrix = jnp.moveaxis(kernel, (-1, -2), (0, 1)).reshape(kernel.shape[-1], -1)
        rows, columns = matrix.shape
        u = self.variable("batch_stats", "u", self._random, rows)
        v = self.variable("batch_stats", "v", self._random, columns)
        left, right = u.value, v.value
        if train and not self.is_initializing():
            fixed = jax.lax.stop_gradient(matrix)
            right = _unit(fixed.T @ left)
            left = _unit(fixed @ right)
            u.value, v.value = left, right
        return kernel / (left @ (matrix @ right))

    def _random(self, size: int) -> Array:
        return _unit(jax.random.normal(self.make_rng("params"), (size,)))


class SpectralConv(nn.Module):
    """Spectral-normalised 4 × 4 convolution with stride 2, padding 1 and no bias."""

    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B, F, T, C] -> [B, F / 2, T / 2, features]."""
        kernel = self.param("kernel", uniform_kernel, (4, 4, x.shape[-1], self.features))
        kernel = SpectralNorm(name="spectral_norm")(kernel, train)
        return jax.lax.conv_general_dilated(
            x, kernel.astype(x.dtype), (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


class SpectralDense(nn.Module):
    """Spectral-normalised linear layer with bias."""

    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B, C] -> [B, features]."""
        kernel = self.param("kernel", uniform_kernel, (x.shape[-1], self.features))
        bias = self.param("bias", uniform_bias(x.shape[-1]), (self.features,))
        return x @ SpectralNorm(name="spectral_norm")(kernel, train) + bias


class Discriminator(nn.Module):
    """Predicts the score of an estimate, given its clean reference.

    Attributes:
        config: width and dropout rate.
        axis_name: mapped axis that splits the batch; None: the batch is not split.
        dtype: dtype of the convolutions and of the activations, float32 or bfloat16; see `layers`.
    """

    config: DiscriminatorConfig
    axis_name: str | None = None
    dtype: str = "float32"

    @nn.compact
    def __call__(self, clean: Array, other: Array, train: bool = False) -> Array:
        """Predict the normalised score.

        Args:
            clean: float[B, T, F], compressed magnitude of the reference.
            other: float[B, T, F], compressed magnitude of the estimate.
            train: whether to update every spectral norm by one power iteration and to apply dropout.

        Returns:
            float[B] in (0, 1); clean speech has the target 1.

        Raises:
            ValueError: the ranks or sizes do not match, or there are fewer than 16 frames or bins.
        """
        sizes = check_shape("clean magnitude", clean.shape, "BTF")
        check_shape("scored magnitude", other.shape, clean.shape)
        if min(sizes["T"], sizes["F"]) < 16:
            raise ValueError(f"magnitudes have shape {list(clean.shape)}; four halvings need 16 frames and bins")
        x = jnp.stack([clean, other], axis=-1).swapaxes(1, 2).astype(self.dtype)
        for i, factor in enumerate((1, 2, 4, 8)):
            x = SpectralConv(factor * self.config.channels, name=f"conv_{i}")(x, train)
            x = PReLU(name=f"prelu_{i}")(InstanceNorm(name=f"norm_{i}")(x))
        # The rest is two small products and a sigmoid: a precision below float32 would save nothing.
        x = jnp.max(x, axis=(1, 2)).astype(jnp.float32)
        x = SpectralDense(4 * self.config.channels, name="hidden")(x, train)
        x = Dropout(self.config.dropout)(x, row_indices(x.shape[0], self.axis_name), train)
        x = SpectralDense(1, name="output")(PReLU(name="hidden_prelu")(x), train)[:, 0]
        slope = self.param("slope", nn.initializers.ones, (1,))
        return nn.sigmoid(slope * x)
