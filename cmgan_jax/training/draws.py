"""Random keys of a step: they derive from the seed, the step and what is drawn, so that none is stored."""

from enum import IntEnum

import jax
from jax import Array


class Draw(IntEnum):
    """What random numbers of a step are drawn for; each has a key of its own. The values are part of what a run is."""

    GENERATOR = 0
    """Dropout of the generator."""
    ADVERSARIAL = 1
    """Dropout of the discriminator, for the generator's adversarial term."""
    ESTIMATE = 2
    """Dropout of the discriminator while it learns the score of the estimate."""
    CLEAN = 3
    """Dropout of the discriminator while it learns the score of clean speech."""


def key_of(seed: int, step: Array, draw: Draw) -> Array:
    """The key of one step's draw.

    Args:
        seed: the run's.
        step: int32[], updates attempted.
        draw: what it is for.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), draw.value)
