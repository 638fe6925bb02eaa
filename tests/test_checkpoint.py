"""Checkpoints: written behind the run's back, whole or absent, and known when damaged."""

import ctypes
import errno
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cmgan_jax.config import Config
from cmgan_jax.errors import UserError
from cmgan_jax.inference.weights import load_checkpoint, refuse_damaged
from cmgan_jax.models.generator import split_blocks
from cmgan_jax.recipes import make_config, override, to_dict
from cmgan_jax.runs.folder import Checkpoint, is_run, newest_whole, read_about, read_run, steps_in
from cmgan_jax.system import checksums
from cmgan_jax.training.checkpoint import CheckpointStore, restore
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.state import TrainState, random_state
from experiments.soak_test import sample

CONFIG = make_config("recommended", "tiny")


@pytest.fixture(scope="module")
def placement() -> Placement:
    return Placement(jax.local_devices()[:2])


@pytest.fixture(scope="module")
def shapes() -> TrainState:
    return jax.eval_shape(partial(random_state, CONFIG))


def filled(shapes: TrainState, number: int) -> TrainState:
    """A state of the right shapes whose every entry is one number."""
    return jax.tree.map(lambda leaf: np.full(leaf.shape, number, leaf.dtype), shapes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CheckpointStore]:
    store = CheckpointStore(tmp_path)
    yield store
    store.close()


def save(store: CheckpointStore, step: int, state: TrainState, best: bool = False) -> BaseException | None:
    store.save(step, state, {"position": {"step": step}}, best)
    return store.failure(wait=True)


def test_what_is_saved_comes_back(
    store: CheckpointStore, shapes: TrainState, placement: Placement, tmp_path: Path
) -> None:
    assert save(store, 3, placement.replicate(filled(shapes, 3))) is None
    checkpoint = Checkpoint(tmp_path, "latest", 3)
    assert read_run(checkpoint) == {"position": {"step": 3}}
    restored = restore(checkpoint, CONFIG, placement)
    assert jax.tree.structure(restored) == jax.tree.structure(shapes)
    for leaf in jax.tree.leaves(restored):
        np.testing.assert_array_equal(leaf, 3)
        assert leaf.sharding.device_set == set(placement.devices)


def test_a_checkpoint_of_an_earlier_version_comes_back(
    store: CheckpointStore, shapes: TrainState, placement: Placement, tmp_path: Path
) -> None:
    """Its state had a field more, `unlearnt`, which holds nothing unless the discriminator was one step late."""
    state = filled(shapes, 3)
    earlier: Any = {field.name: getattr(state, field.name) for field in fields(state)} | {"unlearnt": None}
    assert save(store, 3, earlier) is None
    for leaf in jax.tree.leaves(restore(Checkpoint(tmp_path, "latest", 3), CONFIG, placement)):
        np.testing.assert_array_equal(leaf, 3)


def test_the_next_step_may_reuse_the_buffers(
    store: CheckpointStore, shapes: TrainState, placement: Placement, tmp_path: Path
) -> None:
    """The state is given away at once, while it is still being written."""
    state = placement.replicate(filled(shapes, 1))
    store.save(1, state, {})
    spend = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    jax.block_until_ready(spend(state))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert store.failure(wait=True) is None
    for leaf in jax.tree.leaves(restore(Checkpoint(tmp_path, "latest", 1), CONFIG, placement)):
        np.testing.assert_array_equal(leaf, 1)


def test_two_are_kept_and_one_best(store: CheckpointStore, shapes: TrainState, tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        assert save(store, step, filled(shapes, step), best=step in (1, 3)) is None
    assert steps_in(tmp_path / "latest") == [3, 4]
    assert steps_in(tmp_path / "best") == [3]
    assert checksums.damage(tmp_path / "best" / "3") is None
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["3", "3", "4"]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_a_save_gives_free_memory_back(store: CheckpointStore, shapes: TrainState) -> None:
    """100 MB are used and freed below a byte that is not, so that glibc by itself would keep them."""
    assert save(store, 1, filled(shapes, 1)) is None
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(100_000) for _ in range(1000)]
    above = libc.malloc(100_000)
    for block in blocks:
        ctypes.memset(block, 1, 100_000)
        libc.free(block)
    before = sample(os.getpid(), 0).memory
    assert save(store, 2, filled(shapes, 2)) is None
    fell = before - sample(os.getpid(), 0).memory
    libc.free(above)
    assert fell > 60


@pytest.fixture
def two(store: CheckpointStore, shapes: TrainState, tmp_path: Path) -> Path:
    """A run folder with checkpoints of steps 1 and 2."""
    for step in (1, 2):
        assert save(store, step, filled(shapes, step)) is None
    return tmp_path


def largest(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def harm(folder: Path, how: str) -> str:
    """Damage a checkpoint; what must be said of it."""
    path = largest(folder / "state")
    name, content = str(path.relative_to(folder)), bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
        return f"{name} has {len(content) // 2} bytes of {len(content)}"
    if how == "missing":
        path.unlink()
        return f"{name}: No such file"
    if how == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        return f"{name} has other content"
    (folder / checksums.NAME).unlink()
    return "not written to its end"


@pytest.mark.parametrize("how", ["truncated", "missing", "flipped", "unsealed"])
def test_a_damaged_one_is_named_and_the_one_before_it_used(two: Path, how: str) -> None:
    assert newest_whole(two) == (Checkpoint(two, "latest", 2), [])
    said = harm(two / "latest" / "2", how)
    found, (line,) = newest_whole(two)
    assert found == Checkpoint(two, "latest", 1)
    assert line.startswith(f"{two / 'latest' / '2'} is damaged: ")
    assert said in line


@pytest.mark.parametrize("content", ["", "[]", '{"state": 3}', "\x00"])
def test_unreadable_checksums_are_damage(two: Path, content: str) -> None:
    (two / "latest" / "2" / checksums.NAME).write_text(content)
    found, damaged = newest_whole(two)
    assert found == Checkpoint(two, "latest", 1)
    assert "cannot be read" in damaged[0]


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 400, b"[]", b"{}", b'{"config": ', b"\xff\xfe"])
def test_a_lost_record_of_a_run_is_that_of_its_newest_whole_checkpoint(
    store: CheckpointStore, shapes: TrainState, tmp_path: Path, content: bytes | None
) -> None:
    """As a power loss leaves run.json: gone, empty, zeros, half. The damaged checkpoint does not count."""
    about = {"config": {"seed": 3}, "source": {"data": "here"}}
    for step in (1, 2):
        store.save(step, filled(shapes, step), about | {"position": {"step": step}})
        assert store.failure(wait=True) is None
    harm(tmp_path / "latest" / "2", "flipped")
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    assert is_run(tmp_path)
    assert read_about(tmp_path) == about
    harm(tmp_path / "latest" / "1", "flipped")
    with pytest.raises(UserError, match="no checkpoint is whole"):
        read_about(tmp_path)


def test_a_run_without_record_and_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    (tmp_path / "run.json").touch()
    assert is_run(tmp_path)
    with pytest.raises(UserError, match=r"run.json cannot be read .*--overwrite"):
        read_about(tmp_path)


def test_all_damaged_is_an_error_and_none_at_all_is_not(two: Path, tmp_path: Path) -> None:
    for step in ("1", "2"):
        harm(two / "latest" / step, "missing")
    with pytest.raises(UserError, match="no checkpoint is whole") as refused:
        newest_whole(two)
    assert str(two / "latest" / "1") in str(refused.value)
    assert newest_whole(tmp_path / "empty") == (None, [])


def test_a_best_one_serves_where_the_latest_is_damaged(
    store: CheckpointStore, shapes: TrainState, tmp_path: Path
) -> None:
    save(store, 1, filled(shapes, 1))
    save(store, 2, filled(shapes, 2), best=True)
    harm(tmp_path / "latest" / "2", "flipped")
    found, damaged = newest_whole(tmp_path)
    assert found == Checkpoint(tmp_path, "best", 2)
    assert len(damaged) == 1


def test_remains_are_cleared_at_the_start(two: Path) -> None:
    (two / "latest" / "3.unfinished.orbax-checkpoint-tmp").mkdir()
    (two / "best" / "7").mkdir()
    CheckpointStore(two, step=1).close()
    assert [path.name for path in two.glob("*/*")] == ["1"]


@pytest.mark.parametrize("part", ["system.checksums.write", "training.checkpoint.settle"])
def test_a_failed_save_keeps_the_previous_one_and_leaves_nothing(
    two: Path, store: CheckpointStore, shapes: TrainState, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"cmgan_jax.{part}", full)
        error = save(store, 3, filled(shapes, 3), best=True)
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert store.failure(wait=True) is None
    assert sorted(str(path.relative_to(two)) for path in two.glob("*/*")) == ["latest/1", "latest/2"]
    assert save(store, 3, filled(shapes, 3), best=True) is None
    assert steps_in(two / "latest") == [2, 3]


def full_for(monkeypatch: pytest.MonkeyPatch, refused: set[str]) -> None:
    """A disk without room for checkpoints of these places, `best/3` and the like, as long as they are in the set."""

    def write(folder: Path) -> None:
        if f"{folder.parent.name}/{folder.name.split('.')[0]}" in refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        sealed(folder)

    sealed = checksums.write
    monkeypatch.setattr(checksums, "write", write)


def places(folder: Path, *kinds: str) -> list[str]:
    """Everything in folders of these kinds, or in all."""
    found = [path.relative_to(folder) for path in folder.glob("*/*")]
    return sorted(str(path) for path in found if not kinds or path.parts[0] in kinds)


def test_a_best_one_that_could_not_be_written_goes_before_all_later_ones(
    two: Path, store: CheckpointStore, shapes: TrainState, placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So whatever a run is resumed from, it has the best one, or comes by it again."""
    refused = {"best/3"}
    full_for(monkeypatch, refused)
    assert save(store, 3, filled(shapes, 3), best=True) is not None
    assert store.owed == 3
    assert save(store, 4, filled(shapes, 4)) is not None
    assert store.owed == 3
    assert places(two) == ["latest/1", "latest/2"]
    refused.clear()
    assert save(store, 5, filled(shapes, 5)) is None
    assert store.owed is None
    assert places(two) == ["best/3", "latest/2", "latest/5"]
    for leaf in jax.tree.leaves(restore(Checkpoint(two, "best", 3), CONFIG, placement)):
        np.testing.assert_array_equal(leaf, 3)
    assert read_run(Checkpoint(two, "best", 3)) == {"position": {"step": 3}}


def test_a_better_one_takes_the_place_of_one_that_could_not_be_written(
    two: Path, store: CheckpointStore, shapes: TrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_for(monkeypatch, {"best/3"})
    assert save(store, 3, filled(shapes, 3), best=True) is not None
    assert save(store, 4, filled(shapes, 4), best=True) is None
    assert save(store, 5, filled(shapes, 5)) is None
    assert places(two) == ["best/4", "latest/4", "latest/5"]


def test_a_best_one_is_kept_where_only_the_latest_could_not_be_written(
    two: Path, store: CheckpointStore, shapes: TrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process is killed between the two: the run goes on from the best one, which holds the same."""
    full_for(monkeypatch, {"latest/3"})
    assert save(store, 3, filled(shapes, 3), best=True) is not None
    assert store.owed is None
    assert places(two) == ["best/3", "latest/1", "latest/2"]
    assert newest_whole(two) == (Checkpoint(two, "best", 3), [])
    assert save(store, 4, filled(shapes, 4)) is None
    assert places(two) == ["best/3", "latest/2", "latest/4"]


def test_a_checkpoint_whose_last_act_failed_is_written_again(
    two: Path, store: CheckpointStore, shapes: TrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its name already, but perhaps not for long: the disk refused to write the name down."""

    def broken(path: Path) -> None:
        if path.name == "best":
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("cmgan_jax.system.outputs.sync", broken)
        assert save(store, 3, filled(shapes, 3), best=True) is not None
    assert save(store, 4, filled(shapes, 4)) is None
    assert places(two) == ["best/3", "latest/2", "latest/4"]
    assert checksums.damage(two / "best" / "3") is None


def test_a_save_waits_for_the_news_of_the_one_before(store: CheckpointStore, shapes: TrainState) -> None:
    store.save(1, filled(shapes, 1), {})
    with pytest.raises(ValueError, match="failure"):
        store.save(2, filled(shapes, 2), {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10min", (10.0, "min")), ("0.5 min", (0.5, "min")), ("500steps", (500.0, "steps")), ("0min", (0.0, "min"))],
)
def test_intervals_have_units(text: str, expected: tuple[float, str]) -> None:
    assert Config(save_every=text).save_interval == expected


def test_evaluation_refuses_a_damaged_one_and_names_the_others(two: Path) -> None:
    refuse_damaged(two / "latest" / "1")
    harm(two / "latest" / "2", "flipped")
    with pytest.raises(UserError) as refused:
        refuse_damaged(two / "latest" / "2")
    assert str(refused.value).startswith(f"{two / 'latest' / '2'} is damaged: state")
    assert str(refused.value).endswith(f"Whole ones: {two / 'latest' / '1'}")
    harm(two / "latest" / "1", "missing")
    with pytest.raises(UserError, match="no other in its run that is whole"):
        load_checkpoint(two / "latest" / "2")


def test_a_checkpoint_whose_blocks_lie_apart_is_used_but_not_gone_on_from(
    store: CheckpointStore, shapes: TrainState, placement: Placement, tmp_path: Path
) -> None:
    """As earlier revisions wrote them. What is used comes back stacked, block by block in order, for any device."""
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    network = state.generator
    params, stats = network.params, network.batch_stats
    with_kernels = override(CONFIG, {"generator.backend": "triton"})
    apart = replace(network, params=split_blocks(params), batch_stats=split_blocks(stats))
    store.save(1, replace(state, generator=apart, average=None), {"config": to_dict(with_kernels)})
    assert store.failure(wait=True) is None
    checkpoint = Checkpoint(tmp_path, "latest", 1)
    with pytest.raises(UserError, match="earlier revision"):
        restore(checkpoint, CONFIG, placement)
    found = load_checkpoint(Path(str(checkpoint)))
    jax.tree.map(np.testing.assert_array_equal, found.generator, {"params": params, "batch_stats": stats})
    assert found.config == CONFIG
