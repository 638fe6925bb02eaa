"""Random keys of a step, which derive from the seed, the step and the purpose, so that no random state is stored."""

from enum import IntEnum

import jax
from jax import Array


class Draw(IntEnum):
    """Purposes of a step's random numbers, each with its own key. Changing the values would change runs."""

    GENERATOR = 0
    """Dropout of the generator."""
    ADVERSARIAL = 1
    """Dropout of the discriminator, for the generator's adversarial term."""
    ESTIMATE = 2
    """Dropout of the discriminator while it learns the score of the estimate."""
    CLEAN = 3
    """Dropout of the discriminator while it learns the score of clean speech."""


def key_of(seed: int, step: Array, draw: Draw) -> Array:
    """The random key for one purpose in one step.

    Args:
        seed: the run's seed.
        step: int32[], number of updates attempted.
        draw: purpose of the random numbers.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), draw.value)
