"""The state of a training run between steps, and its initialisation."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from cmgan_jax.config import Config, OptimiserConfig
from cmgan_jax.models.networks import Networks, make_networks
from cmgan_jax.spectral import frame_count


@flax.struct.dataclass
class NetState:
    """One network in training.

    Attributes:
        step: int32[], number of updates attempted.
        params: trainable parameters.
        batch_stats: running statistics of batch norm, or the vectors of spectral norm.
        opt_state: state of the optimiser, with all parameters as one vector.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any


@flax.struct.dataclass
class TrainState:
    """The whole training state, which checkpoints store.

    Attributes:
        generator: state of the generator.
        discriminator: state of the discriminator.
        average: moving average of the generator's parameters; None if the recipe uses none.
    """

    generator: NetState
    discriminator: NetState
    average: Any

    @property
    def validated(self) -> dict[str, Any]:
        """Variables of the generator that is validated and used: the moving average, if there is one."""
        params = self.generator.params if self.average is None else self.average
        return {"params": params, "batch_stats": self.generator.batch_stats}


def optimiser(config: OptimiserConfig) -> optax.GradientTransformation:
    """AdamW without its learning rate, which the step applies, so that a new rate needs no recompilation."""
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm > 0 else []
    adam = optax.scale_by_adam(config.beta1, config.beta2, config.epsilon)
    return optax.chain(*clip, adam, optax.add_decayed_weights(config.weight_decay))


def rate_factor(config: OptimiserConfig, epoch: int) -> float:
    """Factor of both learning rates in an epoch (counted from 0)."""
    return config.decay_factor ** (epoch // config.decay_every)


def start_network(variables: dict[str, Any], config: OptimiserConfig) -> NetState:
    """State of a network at step 0, with a new optimiser state."""
    vector, _ = ravel_pytree(variables["params"])
    moments = optimiser(config).init(vector)
    return NetState(jnp.zeros((), jnp.int32), variables["params"], variables["batch_stats"], moments)


def start_training(generator: dict[str, Any], discriminator: dict[str, Any], config: Config) -> TrainState:
    """State of both networks at step 0, from their variables (`params`, `batch_stats`)."""
    # The average is a copy, because it is donated separately from the parameters.
    average = jax.tree.map(jnp.copy, generator["params"]) if config.optimiser.ema_decay > 0 else None
    networks = {"generator": generator, "discriminator": discriminator}
    started = {name: start_network(variables, config.optimiser) for name, variables in networks.items()}
    return TrainState(**started, average=average)


RUN_ONCE = {"xla_backend_optimization_level": 0}
"""Compiler options for a program that runs only once."""


def random_state(config: Config, networks: Networks | None = None) -> TrainState:
    """Initial state with random weights from the config's seed; every state of this config has the same shapes.

    Args:
        config: the run's configuration.
        networks: both networks, built without a device axis; None: those that the config names.
    """
    networks = networks or make_networks(config)
    keys = jax.random.split(jax.random.key(config.seed))
    frames = frame_count(config.crop_samples, config.spectral)
    magnitude = jnp.ones((1, frames, config.spectral.bins))
    generator = networks.generator.init(keys[0], magnitude.astype(jnp.complex64))
    discriminator = networks.discriminator.init(keys[1], magnitude, magnitude)
    # A network may have no `batch_stats`: a generator without blocks has no batch norm.
    return start_training({"batch_stats": {}, **generator}, {"batch_stats": {}, **discriminator}, config)


def initialise(config: Config, networks: Networks | None = None) -> TrainState:
    """Compute `random_state`. It runs only once, so compiling in a quarter of the time matters more than fast code."""
    return jax.jit(random_state, static_argnums=(0, 1), compiler_options=RUN_ONCE)(config, networks)


def initialise_around(generator: dict[str, Any], config: Config, networks: Networks | None = None) -> TrainState:
    """State of a trained generator, from its variables (`params`, `batch_stats`), and a random discriminator."""
    fresh = initialise(config, networks).discriminator
    return start_training(generator, {"params": fresh.params, "batch_stats": fresh.batch_stats}, config)
