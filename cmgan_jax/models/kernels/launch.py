"""Helpers to launch all kernels. Imports Triton, so import this module only where `backends.uses_kernels` is true."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax_triton  # pyright: ignore[reportMissingImports]
from jax import Array

LEAST = 16
"""Minimum number of rows, columns and terms of a matrix product in Triton."""


class Tiles(NamedTuple):
    """Tile sizes of a kernel over rows: rows and columns of a block, warps per program, and pipeline stages."""

    rows: int
    part: int
    num_warps: int
    num_stages: int

    def compiled_for(self, kind: Any, width: int) -> dict[str, Any]:
        """Compile-time constants of a kernel, for operands of a dtype and a given number of columns."""
        how = precision(kind)
        rows, part, num_warps, num_stages = EXACT if how == "ieee" else self
        cut = {"BLOCK": rows, "PART": min(part, width), "num_warps": num_warps, "num_stages": num_stages}
        return cut | {"PRECISION": how}


EXACT = Tiles(32, 32, 4, 1)
"""Tiles for full float32 precision; larger blocks would not fit in registers."""


def power(number: int) -> int:
    """Smallest power of two that is at least `number` and `LEAST`; every axis of a block needs such a size."""
    return max(LEAST, 1 << (number - 1).bit_length())


def fits(*sizes: int) -> bool:
    """Whether kernels without padding support the sizes: powers of two, and at least `LEAST`."""
    return all(size == power(size) for size in sizes)


def precision(kind: Any) -> str:
    """Triton's name of the precision of products, from the dtype and JAX's setting (`precision.as_configured`)."""
    told = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return "ieee" if kind == jnp.float32 and told in ("highest", "float32") else "tf32"


def launch(
    kernel: Any, grid: tuple[int, ...], operands: Sequence[Any], results: Sequence[Any], **constants: Any
) -> list[Array]:
    """Run a kernel.

    Args:
        kernel: Triton kernel whose arguments are the operands, the results and the compile-time constants.
        grid: grid of programs.
        operands: arrays and numbers.
        results: (shape, dtype) of each result.
        constants: compile-time constants, and the options `num_warps`, `num_stages`, `zeroed_outputs`.

    Returns:
        The results.
    """
    shapes = tuple(jax.ShapeDtypeStruct(shape, kind) for shape, kind in results)
    return list(jax_triton.triton_call(*operands, kernel=kernel, out_shape=shapes, grid=grid, **constants))
