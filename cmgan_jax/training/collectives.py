"""Sums and means over the devices that share a step; without an axis there is one device, and they do nothing."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

Tree = TypeVar("Tree")


def mean(tree: Tree, axis_name: str | None) -> Tree:
    """Mean of every leaf over the devices of the axis."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def total(tree: Tree, axis_name: str | None) -> Tree:
    """Sum of every leaf over the devices of the axis."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def joined(rows: Array, axis_name: str | None) -> Array:
    """Concatenate the rows of all devices, [b, ...] each, in the order of devices: [B, ...]."""
    return rows if axis_name is None else jax.lax.all_gather(rows, axis_name, tiled=True)


def of_first_device(tree: Any, axis_name: str | None) -> Any:
    """Replace every leaf by that of the first device of the axis."""
    if axis_name is None:
        return tree
    first = jax.lax.axis_index(axis_name) == 0
    return jax.lax.psum(jax.tree.map(lambda x: jnp.where(first, x, 0.0), tree), axis_name)
