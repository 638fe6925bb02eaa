"""Where arrays live: rows a device, replicas without a leading axis, the choice of devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmgan_jax.errors import UserError
from cmgan_jax.shapes import AXIS
from cmgan_jax.training import parallel
from cmgan_jax.training.parallel import Placement, choose_devices, gather


@pytest.fixture(scope="module")
def four() -> Placement:
    return Placement(jax.devices()[:4])


def test_split_gives_each_device_its_rows_in_order(four: Placement) -> None:
    batch = {"clean": np.arange(24.0).reshape(8, 3), "valid": np.arange(8)}
    rows = four.split(batch)
    assert rows["clean"].shape == (4, 2, 3)
    for shard in rows["valid"].addressable_shards:
        place = four.devices.index(shard.device)
        np.testing.assert_array_equal(np.ravel(shard.data), [2 * place, 2 * place + 1])
    for name, leaf in batch.items():
        np.testing.assert_array_equal(gather(rows[name]), leaf)


def test_a_batch_that_does_not_split_is_refused(four: Placement) -> None:
    with pytest.raises(ValueError, match="a batch of 6 does not split over 4 devices"):
        four.split({"clean": np.zeros((6, 2))})


def test_a_mapped_step_takes_what_was_put_as_it_is(four: Placement) -> None:
    """Axes of None are whole on every device, axes of 0 are rows; the named axis reduces over all of them."""
    state = four.replicate({"weight": np.float32(2)})
    assert {shard.device for shard in state["weight"].addressable_shards} == set(four.devices)
    described = four.describe(jax.eval_shape(lambda: {"weight": jnp.float32(0)}))
    assert described["weight"].sharding == state["weight"].sharding

    def step(state: Any, rows: jax.Array) -> Any:
        return jax.lax.psum(jnp.sum(rows * state["weight"]), AXIS), rows + jax.lax.axis_index(AXIS)

    total, moved = four.map(step, (None, 0), (None, 0))(state, four.split(np.arange(8, dtype=np.float32)))
    assert float(total) == 2 * 28
    np.testing.assert_array_equal(gather(moved), [0, 1, 3, 4, 6, 7, 9, 10])


def test_as_many_devices_as_divide_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    present = jax.devices()[:4]
    monkeypatch.setattr(parallel.jax, "local_devices", lambda process_index: present)
    for batch, expected in ((16, 4), (6, 3), (2, 2), (5, 1)):
        assert choose_devices(0, batch) == present[:expected]
    assert choose_devices(2, 16) == present[:2]
    for count, batch, words in (
        (5, 10, r"--devices 5: this machine has 4 \(cpu\)"),
        (3, 16, r"--devices 3: a batch of 16 .*\[1, 2, 4\] would fit"),
        (-1, 16, "--devices -1: .*0 .*or more"),
    ):
        with pytest.raises(UserError, match=words):
            choose_devices(count, batch)


def test_devices_of_several_hosts_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts, of four devices and of three: as many of each as divide the batch."""
    first, second = jax.devices()[:4], jax.devices()[:3]
    monkeypatch.setattr(parallel.jax, "process_count", lambda: 2)
    monkeypatch.setattr(parallel.jax, "local_devices", lambda process_index: (first, second)[process_index])
    assert choose_devices(0, 16) == first[:2] + second[:2]
    assert choose_devices(1, 16) == first[:1] + second[:1]
    for count, batch, words in (
        (4, 16, r"--devices 4: this machine has 3 \(cpu\) on each of 2 hosts"),
        (3, 16, r"a batch of 16 .*\[1, 2\] would fit"),
        (0, 5, r"a batch of 5 does not split evenly over 2 hosts; \[1\] hosts would fit"),
    ):
        with pytest.raises(UserError, match=words):
            choose_devices(count, batch)
