"""Processing of many independent sequences in chunks that fit a device's fast memory."""

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
"""Largest size, in elements, of a chunk's largest intermediate, by platform. On a CPU it fits a core's cache (tuned).
"""
CHUNK_SHARE = 64
"""On other platforms, bytes of device memory per element of the largest intermediate; a few exist at a time."""
CHUNK_DEFAULT = 2**26
"""Largest size, in elements, where a device does not report its memory."""

KEPT = "kept"
"""Checkpoint name of arrays that are saved for the backward pass instead of being recomputed."""


def kept(x: Array) -> Array:
    """Mark an array to be saved for the backward pass instead of being recomputed."""
    return checkpoint_name(x, KEPT)


ONLY_KEPT = jax.checkpoint_policies.save_only_these_names(KEPT)
"""Policy for `jax.checkpoint` under which everything that is not marked by `kept` is recomputed."""


def chunk_elements() -> int:
    """Largest size, in elements, of an intermediate on this device."""
    if known := CHUNK_ELEMENTS.get(jax.default_backend()):
        return known
    memory = jax.local_devices()[0].memory_stats() or {}
    return memory.get("bytes_limit", CHUNK_DEFAULT * CHUNK_SHARE) // CHUNK_SHARE


def equal_parts(total: int, most: int) -> tuple[int, int]:
    """Split `total` into the fewest equal parts of at most `max(1, most)`; the last part may be incomplete.

    Returns:
        (count, size) of the parts.
    """
    count = -(-total // max(1, most))
    return count, -(-total // count)


@dataclass(frozen=True)
class Chunks:
    """A division of sequences into chunks: call `cut` once, `map` any number of times, then `join`.

    Attributes:
        sequences: number of sequences.
        count: number of chunks.
        size: sequences per chunk; the last chunk is padded.
    """

    sequences: int
    count: int
    size: int

    @classmethod
    def of(cls, sequences: int, elements: int) -> "Chunks":
        """Make chunks as large as fast memory allows.

        Args:
            sequences: number of sequences.
            elements: size of the largest intermediate for one sequence.
        """
        most, rows = chunk_elements() // elements, backends.product_rows()
        if rows == 1 or most < rows:
            return cls(sequences, *equal_parts(sequences, most))
        _, size = equal_parts(sequences, most - most % rows)
        size += -size % rows
        return cls(sequences, -(-sequences // size), size)

    def cut(self, operands: Any) -> Any:
        """Reshape arrays [sequences, ...] to [count, size, ...]."""
        # The last chunk is padded with copies of the last sequence, whose results are finite and discarded.
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
        """Mask float32[count, size], 1 for sequences and 0 for padding; None if there is no padding."""
        if self.count * self.size == self.sequences:
            return None
        counted = np.arange(self.count * self.size) < self.sequences
        return counted.astype(np.float32).reshape(self.count, self.size)

    def map(self, function: Callable[..., Any], operands: tuple[Any, ...], recompute: bool = True) -> Any:
        """Apply a function to one chunk after another.

        With `recompute`, only the operands and arrays marked by `kept` are saved for the backward pass. Other
        intermediates are recomputed there, chunk by chunk, so neither pass ever holds them for all sequences.

        Args:
            function: from chunks [size, ...] of the operands to a pytree of arrays [size, ...].
            operands: pytrees of arrays [count, size, ...].
            recompute: see above; otherwise all intermediates are saved.

        Returns:
            The function's results, as arrays [count, size, ...].
        """
        # `prevent_cse` is not needed: the loop keeps XLA from sharing work between the passes. With a single chunk and
        # no loop, the passes are separate programs anyway.
        again = partial(jax.checkpoint, prevent_cse=False, policy=ONLY_KEPT) if recompute else lambda whole: whole
        if self.count == 1:
            # Without slicing outside the checkpoint, the saved operands can be shared with other uses of them.
            alone = again(lambda chunks: function(*jax.tree.map(lambda x: x[0], chunks)))
            return jax.tree.map(lambda x: x[None], alone(operands))
        return jax.lax.map(again(lambda chunk: function(*chunk)), operands)
