"""The update of a network by a gradient with AdamW, and the moving average of its parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from cmgan_jax.config import Config
from cmgan_jax.training.state import NetState, optimiser


def apply_gradient(
    network: NetState, gradient: Any, stats: Any, rate: Array, made: Array, config: Config
) -> tuple[NetState, dict[str, Array]]:
    """Apply AdamW if `made` is true and the gradient is finite; the step counter advances in any case."""
    # Use one long vector: hundreds of small arrays would each need kernels to compile and to launch.
    flat, _ = ravel_pytree(gradient)
    vector, unravel = ravel_pytree(network.params)
    norm = jnp.linalg.norm(flat)
    made = made & jnp.isfinite(norm)
    updates, moments = optimiser(config.optimiser).update(flat, network.opt_state, vector)
    params = unravel(jnp.where(made, vector - rate * jnp.asarray(updates), vector))
    chosen = jax.tree.map(
        lambda new, old: jnp.where(made, new, old), (stats, moments), (network.batch_stats, network.opt_state)
    )
    return NetState(network.step + 1, params, *chosen), {"gradient_norm": norm, "update": made.astype(jnp.float32)}


def move_average(average: Any, params: Any, step: Array, config: Config) -> Any:
    """Update the moving average of the parameters; in step n, its decay is at most (1 + n) / (10 + n)."""
    count = step.astype(jnp.float32)
    decay = jnp.minimum(config.optimiser.ema_decay, (1 + count) / (10 + count))
    (mean, unravel), (new, _) = ravel_pytree(average), ravel_pytree(params)
    return unravel(decay * mean + (1 - decay) * new)
