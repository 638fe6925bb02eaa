"""Work on many independent sequences, as many at a time as a device's fast memory holds."""

from collections.abc import Callable
from typing import Any

import jax

CHUNK_ELEMENTS = {"cpu": 40_000}
"""Elements of the largest intermediate that are computed at once: what stays in a core's cache (CPU, measured)."""
CHUNK_DEFAULT = 2**26


def by_chunks(function: Callable[[Any], Any], operands: Any, elements: int) -> Any:
    """Apply a function of one sequence to each of many.

    Args:
        function: from one sequence's slices of the operands to arrays.
        operands: a pytree of arrays [sequences, ...].
        elements: of the largest intermediate for one sequence.

    Returns:
        What the function gives, stacked: [sequences, ...].
    """
    limit = CHUNK_ELEMENTS.get(jax.default_backend(), CHUNK_DEFAULT)
    sequences = jax.tree.leaves(operands)[0].shape[0]
    return jax.lax.map(function, operands, batch_size=min(sequences, max(1, limit // elements)))
