"""Where arrays live: state on every device, batches split over them. One mapped axis, named in `shapes.AXIS`."""

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

    State is replicated *without* a leading axis and mapped with `in_axes=None`, which `jax.pmap` and `jax.shard_map`
    both can. Everything is put to its final sharding before the first call, since another one recompiles.

    The devices may be those of several hosts. Each puts its own rows and its own replica, on its own devices, and gets
    back the same: the hosts meet in the mapped programs alone.

    Attributes:
        devices: those devices, in order: host by host.
        local: those of them that are this host's.
        hosts: which host this is among them.
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
        """Put every leaf, whole, on every device; all hosts have the same ones."""
        return jax.device_put(tree, self._replicated)

    def describe(self, shapes: Any) -> Any:
        """The same tree with the sharding that `replicate` gives, for a restore without a copy in between."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._replicated), shapes
        )

    def split(self, tree: Any) -> Any:
        """Put this host's leaves [b, ...] on its D devices as [D, b / D, ...], a row a device, in order.

        Raises:
            ValueError: the leading axis is no multiple of the number of devices.
        """
        return jax.device_put(jax.tree.map(self._rows, tree), self._split)

    def map(self, step: Callable[..., Any], in_axes: Any, out_axes: Any, donate: tuple[int, ...] = ()) -> Callable:
        """Compile a step for these devices.

        Args:
            step: called on each device with its share.
            in_axes: 0 for what is split, [D, ...], of which a device gets [...]; None for what all devices have.
            out_axes: likewise, for the results.
            donate: arguments whose memory the results may take.
        """
        if self._mapping == "jit":
            return jax.jit(_over_mesh(step, self._mesh, in_axes, out_axes), donate_argnums=donate)
        return jax.pmap(
            step, AXIS, in_axes=in_axes, out_axes=out_axes, donate_argnums=donate, devices=list(self.devices)
        )

    def connect(self) -> None:
        """Let the devices of several hosts meet while none is compiling: gloo gives up on them after 30 s."""
        if self.hosts.count > 1:
            meet = self.map(lambda x: jax.lax.psum(x, AXIS), 0, None)
            jax.block_until_ready(meet(self.split(np.ones(len(self.local), np.float32))))

    def _rows(self, leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        if leaf.shape[0] % len(self.local):
            raise ValueError(f"a batch of {leaf.shape[0]} does not split over {len(self.local)} devices")
        return leaf.reshape(len(self.local), -1, *leaf.shape[1:])


def _over_mesh(step: Callable[..., Any], mesh: Mesh, in_axes: Any, out_axes: Any) -> Callable[..., Any]:
    """The step over the devices of a mesh, as `jax.pmap` maps it: without the axis of devices inside."""

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
    """Bring this host's rows, [D, B, ...], from its devices as [D · B, ...]; waits for them."""
    host = np.asarray(rows)
    return host.reshape(-1, *host.shape[2:])


def choose_devices(count: int, batch: int) -> list[Any]:
    """The first `count` devices of every host.

    Args:
        count: how many of each host's; 0: all, as far as the batch divides over them.
        batch: the global batch.

    Raises:
        UserError: more than there are, below 0, or a number that does not divide the batch.
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
