"""Train another generator in the place of ours: a gain for every point of the spectrogram, from a recurrent network.

    cmgan train --data DIR --out runs/mine --generator.module examples.custom_generator:MaskNetwork
    cmgan enhance --checkpoint runs/mine --generator-module examples.custom_generator:MaskNetwork --out out noisy.wav

Losses, discriminator, metric, checkpoints, resuming, validation and enhancement are those of every run. The second
command names the module again, since a checkpoint's module is code, and no checkpoint's code runs unasked.
`cmgan_jax.models.networks` says what a generator is given and what it gives.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cmgan_jax.config import Config


class MaskNetwork(nn.Module):
    """A GRU over time that gives a gain between 0 and 1 for every bin.

    Attributes:
        config: the run's configuration; this network reads the width of its layers from `generator.channels`.
        axis_name: the devices' axis, for a network whose layers share statistics over it; this one has none.
    """

    config: Config
    axis_name: str | None = None

    @nn.compact
    def __call__(self, noisy: Array, train: bool = False, frames: Array | None = None) -> Array:
        """[B, T, F] complex -> [B, T, F] complex. It runs forward in time, so padding at the end changes nothing."""
        width = self.config.generator.channels
        features = nn.Dense(width)(jnp.abs(noisy))
        hidden = nn.RNN(nn.GRUCell(width))(nn.silu(features))
        gain = nn.sigmoid(nn.Dense(noisy.shape[-1])(hidden))
        return gain * noisy
