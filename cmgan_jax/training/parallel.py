"""Where arrays live: state on every device, batches split over them. One mapped axis, named in `shapes.AXIS`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cmgan_jax.errors import UserError
from cmgan_jax.shapes import AXIS


class Placement:
    """Devices that share a step.

    State is replicated *without* a leading axis and mapped with `in_axes=None`; the same code moves to `shard_map`
    when pmap goes. Everything is put to its final sharding before the first call, since another one recompiles.

    Attributes:
        devices: those devices, in order.
    """

    def __init__(self, devices: Sequence[Any]):
        self.devices = tuple(devices)
        mesh = Mesh(np.asarray(self.devices), (AXIS,))
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._split = NamedSharding(mesh, PartitionSpec(AXIS))

    def replicate(self, tree: Any) -> Any:
        """Put every leaf, whole, on every device."""
        return jax.device_put(tree, self._replicated)

    def copy(self, tree: Any) -> Any:
        """A replicated tree in buffers of its own, to be donated in its place."""
        return jax.device_put(tree, self._replicated, may_alias=False)

    def describe(self, shapes: Any) -> Any:
        """The same tree with the sharding that `replicate` gives, for a restore without a copy in between."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._replicated), shapes
        )

    def split(self, tree: Any) -> Any:
        """Put leaves [batch, ...] as [D, batch / D, ...], a row a device, in order.

        Raises:
            ValueError: the leading axis is no multiple of the number of devices.
        """
        return jax.device_put(jax.tree.map(self._rows, tree), self._split)

    def map(self, step: Callable[..., Any], in_axes: Any, out_axes: Any, donate: tuple[int, ...] = ()) -> Callable:
        """Compile a step for these devices: axes of None are replicated, axes of 0 are split."""
        return jax.pmap(
            step, AXIS, in_axes=in_axes, out_axes=out_axes, donate_argnums=donate, devices=list(self.devices)
        )

    def _rows(self, leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        if leaf.shape[0] % len(self.devices):
            raise ValueError(f"a batch of {leaf.shape[0]} does not split over {len(self.devices)} devices")
        return leaf.reshape(len(self.devices), -1, *leaf.shape[1:])


def gather(rows: Array) -> np.ndarray:
    """Bring [D, B, ...] to the host as [D · B, ...]; waits for the devices."""
    host = np.asarray(rows)
    return host.reshape(-1, *host.shape[2:])


def choose_devices(count: int, batch: int) -> list[Any]:
    """The first `count` local devices.

    Args:
        count: how many; 0: all, as far as the batch divides over them.
        batch: the global batch.

    Raises:
        UserError: more than there are, below 0, or a number that does not divide the batch.
    """
    present = jax.local_devices()
    if count < 0:
        raise UserError(f"--devices {count}: it must be 0 (all that the batch divides over) or more")
    if count == 0:
        count = max(n for n in range(1, len(present) + 1) if batch % n == 0)
    if count > len(present):
        raise UserError(f"--devices {count}: this machine has {len(present)} ({present[0].platform})")
    if batch % count:
        fitting = [n for n in range(1, len(present) + 1) if batch % n == 0]
        raise UserError(f"--devices {count}: a batch of {batch} does not split evenly; {fitting} would fit")
    return present[:count]
