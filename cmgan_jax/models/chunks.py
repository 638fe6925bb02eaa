"""Work on many independent sequences, as many at a time as a device's fast memory holds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from cmgan_jax.models import backends

CHUNK_ELEMENTS = {"cpu": 1_000_000}
"""Elements of the largest intermediate that are computed at once: what stays in a core's cache (CPU, measured)."""
CHUNK_SHARE = 64
"""Elsewhere: bytes of the device's memory for each such element, of which a few exist at a time."""
CHUNK_DEFAULT = 2**26
"""Where a device does not tell how much memory it has."""

KEPT = "kept"
"""Name of what the backward pass is spared to compute again."""


def kept(x: Array) -> Array:
    """The same array, marked as one that the backward pass finds instead of computing it again."""
    return checkpoint_name(x, KEPT)


ONLY_KEPT = jax.checkpoint_policies.save_only_these_names(KEPT)
"""For `jax.checkpoint`: everything that is not marked is computed again."""


def chunk_elements() -> int:
    """Elements of the largest intermediate that the device should have at once."""
    if known := CHUNK_ELEMENTS.get(jax.default_backend()):
        return known
    memory = jax.local_devices()[0].memory_stats() or {}
    return memory.get("bytes_limit", CHUNK_DEFAULT * CHUNK_SHARE) // CHUNK_SHARE


def equal_parts(total: int, most: int) -> tuple[int, int]:
    """(count, size) of the fewest equal parts of up to `most`, or of 1 where that is less; the last may lack some."""
    count = -(-total // max(1, most))
    return count, -(-total // count)


@dataclass(frozen=True)
class Chunks:
    """So many sequences, a few at a time: `cut`, then `map` as often as wanted, then `join`.

    Attributes:
        sequences: how many.
        count: of chunks.
        size: sequences of each; what the last one lacks is filled up.
    """

    sequences: int
    count: int
    size: int

    @classmethod
    def of(cls, sequences: int, elements: int) -> "Chunks":
        """As large as fast memory allows; elements: of the largest intermediate for one sequence."""
        most, rows = chunk_elements() // elements, backends.product_rows()
        if rows == 1 or most < rows:
            return cls(sequences, *equal_parts(sequences, most))
        _, size = equal_parts(sequences, most - most % rows)
        size += -size % rows
        return cls(sequences, -(-sequences // size), size)

    def cut(self, operands: Any) -> Any:
        """Arrays [sequences, ...] to [count, size, ...]."""
        # What the last chunk lacks is more of the last sequence: computed, not used, and finite.
        lacking = self.count * self.size - self.sequences

        def cut(x: Array) -> Array:
            return jnp.pad(x, [(0, lacking)] + [(0, 0)] * (x.ndim - 1), mode="edge").reshape(
                self.count, self.size, *x.shape[1:]
            )

        return jax.tree.map(cut, operands)

    def join(self, chunks: Any) -> Any:
        """The inverse of `cut`."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: self.sequences], chunks)

    @property
    def counted(self) -> np.ndarray | None:
        """float32[count, size], 1 for each sequence and 0 for what fills up; None where nothing does."""
        if self.count * self.size == self.sequences:
            return None
        counted = np.arange(self.count * self.size) < self.sequences
        return counted.astype(np.float32).reshape(self.count, self.size)

    def map(self, function: Callable[..., Any], operands: tuple[Any, ...], recompute: bool = True) -> Any:
        """Apply a function to one chunk after another.

        With `recompute` the operands alone are kept for the backward pass. What the function computes on its way is
        computed again there, chunk by chunk, so neither pass ever holds it for all sequences.

        Args:
            function: from chunks [size, ...] of the operands to a pytree of arrays [size, ...].
            operands: pytrees of arrays [count, size, ...].
            recompute: see above; without it everything is kept.

        Returns:
            What the function gives: arrays [count, size, ...].
        """
        # The loop itself keeps XLA from sharing work between the passes; without one, that they are programs of their
        # own.
        again = partial(jax.checkpoint, prevent_cse=False, policy=ONLY_KEPT) if recompute else lambda whole: whole
        if self.count == 1:
            # What is kept are the operands as they are, which others may keep too.
            alone = again(lambda chunks: function(*jax.tree.map(lambda x: x[0], chunks)))
            return jax.tree.map(lambda x: x[None], alone(operands))
        return jax.lax.map(again(lambda chunk: function(*chunk)), operands)
