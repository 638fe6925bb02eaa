"""What all kernels are launched with. Imports Triton: to be imported where `backends.uses_kernels` says so."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax_triton  # pyright: ignore[reportMissingImports]
from jax import Array

LEAST = 16
"""Fewest rows, columns and terms of a product that Triton takes."""


class Tiles(NamedTuple):
    """How a kernel over rows is cut up: rows and columns of a block, warps of a program, stages of its pipeline."""

    rows: int
    part: int
    num_warps: int
    num_stages: int

    def compiled_for(self, kind: Any, width: int) -> dict[str, Any]:
        """For constants of a type, in so many columns."""
        how = precision(kind)
        rows, part, num_warps, num_stages = EXACT if how == "ieee" else self
        cut = {"BLOCK": rows, "PART": min(part, width), "num_warps": num_warps, "num_stages": num_stages}
        return cut | {"PRECISION": how}


EXACT = Tiles(32, 32, 4, 1)
"""Where products are exact; larger blocks would not fit registers."""


def power(number: int) -> int:
    """The least power of two that is no less than a number; every axis of a block has one."""
    return max(LEAST, 1 << (number - 1).bit_length())


def fits(*sizes: int) -> bool:
    """Whether sizes are what kernels without padding take: powers of two, and no less than a product takes."""
    return all(size == power(size) for size in sizes)


def precision(kind: Any) -> str:
    """Triton's name for how products of a type are computed, as JAX is told to (`precision.as_configured`)."""
    told = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return "ieee" if kind == jnp.float32 and told in ("highest", "float32") else "tf32"


def launch(
    kernel: Any, grid: tuple[int, ...], operands: Sequence[Any], results: Sequence[Any], **constants: Any
) -> list[Array]:
    """Run a kernel.

    Args:
        kernel: its arguments are the operands, then the results, then what it is compiled for.
        grid: of its programs.
        operands: arrays, and numbers.
        results: (shape, type) each.
        constants: what it is compiled for, and `num_warps`, `num_stages`, `zeroed_outputs`.

    Returns:
        The results.
    """
    shapes = tuple(jax.ShapeDtypeStruct(shape, kind) for shape, kind in results)
    return list(jax_triton.triton_call(*operands, kernel=kernel, out_shape=shapes, grid=grid, **constants))
