"""A training loop of your own, made of this project's steps: on one device without any axis, or over a mesh.

    python examples/train_loop.py --steps 20
    XLA_FLAGS=--xla_force_host_platform_device_count=2 python examples/train_loop.py --steps 20 --devices 2

It trains the smallest preset on synthetic tones, so it shows the calls and no speech. `cmgan train` does the same with
a corpus, validation, checkpoints and records.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cmgan_jax import Config, make_config
from cmgan_jax.models.networks import make_networks
from cmgan_jax.training.parallel import Placement, gather
from cmgan_jax.training.score_targets import TargetScorer
from cmgan_jax.training.state import TrainState, initialise
from cmgan_jax.training.steps import (
    Steps,
    compile_steps,
    discriminator_update,
    generator_backward,
    generator_forward,
    gradient_norms,
)

RATE = 1e-3
"""Learning rate of both networks."""


def batches(config: Config) -> Iterator[dict[str, np.ndarray]]:
    """Clean tones and the same tones in noise, float32[B, S] each."""
    rng = np.random.default_rng(config.seed)
    time = np.arange(config.crop_samples) / config.spectral.sample_rate
    while True:
        pitch = rng.uniform(100, 300, (config.batch, 1))
        harmonics = np.stack([0.1 / n * np.sin(2 * np.pi * n * pitch * time) for n in range(1, 9)])
        clean = harmonics.sum(axis=0).astype(np.float32)
        yield {"clean": clean, "noisy": clean + 0.05 * rng.standard_normal(clean.shape).astype(np.float32)}


def train_on_one_device(config: Config, steps: int) -> list[float]:
    """Plain `jax.jit`: no axis, no mapping. Gives the generator's loss after each step."""
    how = {"config": config, "networks": make_networks(config)}
    programs = Steps(
        forward=jax.jit(partial(generator_forward, **how)),
        backward=jax.jit(partial(generator_backward, **how)),
        update=jax.jit(partial(discriminator_update, **how)),
        norms=jax.jit(partial(gradient_norms, **how)),
    )
    state, losses, rate = initialise(config), [], jnp.float32(RATE)
    with TargetScorer(config.targets, config.batch, config.seed, config.spectral.sample_rate) as scorer:
        for step, batch in zip(range(steps), batches(config), strict=False):
            forward = programs.forward(state.generator, batch)
            # The scores are computed in other processes while the generator learns.
            pending = scorer.submit(step, batch["clean"], np.asarray(forward.estimate))
            generator, average, vectors, metrics = programs.backward(
                state.generator, state.average, state.discriminator, forward, rate
            )
            targets, _ = pending.collect()
            discriminator, _ = programs.update(
                replace(state.discriminator, batch_stats=vectors),
                forward.clean_magnitude,
                forward.estimate_magnitude,
                jnp.asarray(targets.value),
                jnp.asarray(targets.weight),
                jnp.asarray(targets.made),
                rate,
            )
            state = TrainState(generator, discriminator, average)
            losses.append(float(metrics["generator_loss"]))
    return losses


def train_over_devices(config: Config, steps: int, devices: int) -> list[float]:
    """The same over several devices: the batch is split, and gradients are those of the whole batch."""
    placement = Placement(jax.devices()[:devices], config.mapping)
    programs, state = compile_steps(config, placement), placement.replicate(initialise(config))
    losses, rate = [], placement.replicate(jnp.float32(RATE))
    with TargetScorer(config.targets, config.batch, config.seed, config.spectral.sample_rate) as scorer:
        for step, batch in zip(range(steps), batches(config), strict=False):
            forward = programs.forward(state.generator, placement.split(batch))
            pending = scorer.submit(step, batch["clean"], gather(forward.estimate))
            magnitudes = forward.clean_magnitude, forward.estimate_magnitude
            generator, average, vectors, metrics = programs.backward(
                state.generator, state.average, state.discriminator, forward, rate
            )
            targets, _ = pending.collect()
            discriminator, _ = programs.update(
                replace(state.discriminator, batch_stats=vectors),
                *magnitudes,
                placement.split(targets.value),
                placement.split(targets.weight),
                placement.replicate(np.asarray(targets.made)),
                rate,
            )
            state = TrainState(generator, discriminator, average)
            losses.append(float(metrics["generator_loss"]))
    return losses


def main() -> None:
    """Train and print the losses."""
    parser = argparse.ArgumentParser(description="Train the smallest preset on synthetic tones.")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--devices", type=int, default=0, help="over how many devices; 0: one, without a mapping")
    parser.add_argument("--mapping", choices=("pmap", "jit"), default="jit", help="how a step is mapped over them")
    arguments = parser.parse_args()
    config = replace(make_config("recommended", "tiny"), batch=4, mapping=arguments.mapping)
    if arguments.devices:
        losses = train_over_devices(config, arguments.steps, arguments.devices)
    else:
        losses = train_on_one_device(config, arguments.steps)
    print("generator loss: " + ", ".join(f"{loss:.3f}" for loss in losses))


if __name__ == "__main__":
    main()
