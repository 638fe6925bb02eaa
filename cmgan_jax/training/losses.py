"""The loss terms of CMGAN (Cao et al. 2022, equations 4 to 8) as pure functions, each a mean over the batch."""

import jax.numpy as jnp
from jax import Array


def ri_loss(estimate: Array, clean: Array) -> Array:
    """Mean squared error of real parts plus that of imaginary parts, of compressed spectra complex[B, T, F]."""
    error = estimate - clean
    return jnp.mean(jnp.square(error.real)) + jnp.mean(jnp.square(error.imag))


def magnitude_loss(estimate: Array, clean: Array) -> Array:
    """Mean squared error of compressed magnitudes, float[B, T, F]."""
    return jnp.mean(jnp.square(estimate - clean))


def time_loss(estimate: Array, clean: Array) -> Array:
    """Mean absolute error of waveforms, float[B, S]."""
    return jnp.mean(jnp.abs(estimate - clean))


def adversarial_loss(score: Array) -> Array:
    """Mean squared difference between the discriminator's score of the estimate, float[B], and 1 for clean speech."""
    return jnp.mean(jnp.square(score - 1.0))


def weighted_mse(prediction: Array, target: Array, weight: Array, total_weight: Array) -> Array:
    """One device's share of a weighted mean squared error; summed over devices, it is the mean over the global batch.

    Args:
        prediction: float[B].
        target: float[B].
        weight: float[B], 0 for items to be ignored.
        total_weight: sum of the weights over all devices; if it is 0, the result is 0.

    Returns:
        float[]: sum(weight · (prediction - target) ** 2) / total_weight.
    """
    share = jnp.sum(weight * jnp.square(prediction - target))
    return jnp.where(total_weight > 0, share / jnp.where(total_weight > 0, total_weight, 1.0), 0.0)
