"""Dropout whose masks depend neither on the number of devices nor on how much is computed at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Dropout(nn.Module):
    """Dropout whose mask is a hash of the element's number in the global batch.

    A counter hash costs next to nothing beside a random generator, and because the counter runs over the *global*
    batch the masks depend neither on how many devices share it nor on how many rows are computed at once. Mixing: the
    32-bit finaliser of MurmurHash3.

    Attributes:
        rate: probability that an element becomes 0.
    """

    rate: float

    def seeds(self) -> Array:
        """What masks are hashed with, uint32[2]; zeros where nothing is dropped."""
        return jax.random.bits(self.make_rng("dropout"), (2,), jnp.uint32) if self.rate else jnp.zeros(2, jnp.uint32)

    @nn.compact
    def __call__(self, x: Array, numbers: Array, train: bool) -> Array:
        """Drop.

        Args:
            x: [rows, ...].
            numbers: uint32[rows], of each row in the global batch: `row_numbers`.
            train: whether dropout is on.
        """
        if not train or self.rate == 0.0:
            return x
        seeds = self.seeds()
        of_row = np.arange(x[0].size, dtype=np.uint32).reshape(x.shape[1:])
        # The seed is added to rows: a counter without it is the same for all blocks, and XLA keeps it in memory.
        counter = jnp.expand_dims(numbers * np.uint32(x[0].size) + seeds[0], tuple(range(1, x.ndim))) + of_row
        bits = _mix(_mix(counter) ^ seeds[1])
        keep = bits >= np.uint32(self.rate * 2**32)
        return jax.lax.select(keep, x / (1 - self.rate), jnp.zeros_like(x))


def row_numbers(rows: int, axis_name: str | None) -> Array:
    """Numbers of a device's rows in the global batch, uint32[rows]; axis_name: mapped axis that splits it, or None."""
    numbers = jnp.arange(rows, dtype=jnp.uint32)
    if axis_name is not None:
        numbers += jax.lax.axis_index(axis_name).astype(jnp.uint32) * np.uint32(rows)
    return numbers


def _mix(bits: Array) -> Array:
    bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
