"""What all kernels are launched with. Imports Triton: to be imported where `kernels.available()` says so."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax_triton  # pyright: ignore[reportMissingImports]
from jax import Array

LEAST = 16
"""Fewest rows, columns and terms of a product that Triton takes."""


def power(number: int, least: int = LEAST) -> int:
    """The least power of two that is no less than a number; every axis of a block has one."""
    return max(least, 1 << (number - 1).bit_length())


def precision(kind: Any) -> str:
    """Triton's name for how products of a type are computed, as JAX is told to (`precision.as_configured`)."""
    exact = kind == jnp.float32 and jax.config.jax_default_matmul_precision in ("highest", "float32")
    return "ieee" if exact else "tf32"


def launch(
    kernel: Any, grid: tuple[int, ...], operands: Sequence[Any], results: Sequence[Any], **numbers: Any
) -> list[Array]:
    """Run a kernel.

    Args:
        kernel: its arguments are the operands, then the results, then what it is compiled for.
        grid: of its programs.
        operands: arrays, and numbers.
        results: (shape, type) each.
        numbers: what it is compiled for, and `num_warps`, `num_stages`, `zeroed_outputs`.

    Returns:
        The results.
    """
    shapes = tuple(jax.ShapeDtypeStruct(shape, kind) for shape, kind in results)
    return list(jax_triton.triton_call(*operands, kernel=kernel, out_shape=shapes, grid=grid, **numbers))
