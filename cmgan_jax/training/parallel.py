"""Data parallelism: the state is replicated, and batches are split over devices along the axis `shapes.AXIS`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cmgan_jax.config import Mapping
from cmgan_jax.errors import UserError
from cmgan_jax.shapes import AXIS
from cmgan_jax.training.hosts import Hosts


class Placement:
    """Devices that share a step.

    State is replicated *without* a leading axis and mapped with `in_axes=None`, which both `jax.pmap` and
    `jax.shard_map` support. All arrays get their final sharding before the first call, since another sharding would
    cause a recompilation.

    The devices may belong to several hosts. Each host puts its own rows and its own replica on its own devices, and
    reads results from these; hosts communicate only inside the mapped programs.

    Attributes:
        devices: all devices, host by host.
        local: the devices of this host.
        hosts: this host among the hosts of the devices.
    """

    def __init__(self, devices: Sequence[Any], mapping: Mapping = "pmap"):
        self.devices = tuple(devices)
        self._mapping = mapping
        self.local = tuple(device for device in self.devices if device.process_index == jax.process_index())
        processes = sorted({device.process_index for device in self.devices})
        self.hosts = Hosts(processes.index(jax.process_index()), len(processes))
        self._mesh = mesh = Mesh(np.asarray(self.local), (AXIS,))
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._split = NamedSharding(mesh, PartitionSpec(AXIS))
        if mapping == "jit" and self.hosts.count > 1:
            raise UserError(f"--mapping jit serves a single host, and here are {self.hosts.count}: use --mapping pmap")

    def replicate(self, tree: Any) -> Any:
        """Put every leaf, unsplit, on every device of this host; all hosts must have the same values."""
        return jax.device_put(tree, self._replicated)

    def describe(self, shapes: Any) -> Any:
        """Abstract arrays of a tree with the sharding of `replicate`, to restore a checkpoint without another copy."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._replicated), shapes
        )

    def split(self, tree: Any) -> Any:
        """Split this host's leaves [b, ...] over its D devices as [D, b / D, ...], in order.

        Raises:
            ValueError: the leading axis is not a multiple of the number of devices.
        """
        return jax.device_put(jax.tree.map(self._rows, tree), self._split)

    def map(self, step: Callable[..., Any], in_axes: Any, out_axes: Any, donate: tuple[int, ...] = ()) -> Callable:
        """Compile a step for these devices.

        Args:
            step: function that is called on each device with its share.
            in_axes: 0 for split arguments, [D, ...], of which each device gets [...]; None for replicated ones.
            out_axes: the same for the results.
            donate: indices of donated arguments, whose memory the results may reuse.
        """
        if self._mapping == "jit":
            return jax.jit(_over_mesh(step, self._mesh, in_axes, out_axes), donate_argnums=donate)
        return jax.pmap(
            step, AXIS, in_axes=in_axes, out_axes=out_axes, donate_argnums=donate, devices=list(self.devices)
        )

    def connect(self) -> None:
        """Connect the devices of several hosts before any compiles, since gloo times out after 30 s."""
        if self.hosts.count > 1:
            meet = self.map(lambda x: jax.lax.psum(x, AXIS), 0, None)
            jax.block_until_ready(meet(self.split(np.ones(len(self.local), np.float32))))

    def _rows(self, leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        if leaf.shape[0] % len(self.local):
            raise ValueError(f"a batch of {leaf.shape[0]} does not split over {len(self.local)} devices")
        return leaf.reshape(len(self.local), -1, *leaf.shape[1:])


def _over_mesh(step: Callable[..., Any], mesh: Mesh, in_axes: Any, out_axes: Any) -> Callable[..., Any]:
    """Map a step over the devices of a mesh like `jax.pmap`, so that the device axis is removed inside."""

    def placed(axes: Any, on_axis: Callable[[Any], Any], tree: Any) -> Any:
        def subtree(axis: int | None, leaves: Any) -> Any:
            return leaves if axis is None else jax.tree.map(on_axis, leaves)

        return jax.tree.map(subtree, axes, tree, is_leaf=_is_none)

    def inner(*arguments: Any) -> Any:
        results = step(*placed(in_axes, lambda x: x[0], arguments))
        return placed(out_axes, lambda x: x[None], results)

    specifications = [
        jax.tree.map(lambda axis: PartitionSpec() if axis is None else PartitionSpec(AXIS), axes, is_leaf=_is_none)
        for axes in (in_axes, out_axes)
    ]
    return jax.shard_map(inner, mesh=mesh, in_specs=specifications[0], out_specs=specifications[1], check_vma=False)


def _is_none(axis: Any) -> bool:
    return axis is None


def gather(rows: Array) -> np.ndarray:
    """Copy this host's rows, [D, B, ...], from its devices as [D · B, ...]; this waits for them."""
    host = np.asarray(rows)
    return host.reshape(-1, *host.shape[2:])


def choose_devices(count: int, batch: int) -> list[Any]:
    """Choose the first `count` devices of every host.

    Args:
        count: number of devices per host; 0: as many as possible that divide the batch.
        batch: global batch size.

    Raises:
        UserError: the number is negative, larger than the number of devices, or does not divide the batch.
    """
    hosts = jax.process_count()
    present = [jax.local_devices(process_index=index) for index in range(hosts)]
    fewest = min(map(len, present))
    fitting = [n for n in range(1, fewest + 1) if batch % (n * hosts) == 0]
    each = f" on each of {hosts} hosts" if hosts > 1 else ""
    if count < 0:
        raise UserError(f"--devices {count}: it must be 0 (all that the batch divides over) or more")
    if not fitting:
        fewer = [n for n in range(1, hosts) if batch % n == 0]
        raise UserError(f"a batch of {batch} does not split evenly over {hosts} hosts; {fewer} hosts would fit")
    if count > fewest:
        raise UserError(f"--devices {count}: this machine has {fewest} ({present[0][0].platform}){each}")
    if (count or fitting[-1]) not in fitting:
        raise UserError(f"--devices {count}{each}: a batch of {batch} does not split evenly; {fitting} would fit")
    return [device for devices in present for device in devices[: count or fitting[-1]]]
