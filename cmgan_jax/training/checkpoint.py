"""Checkpoints in orbax: everything a run needs to go on, and how it came to be.

Each has two items: `state`, a `TrainState` (both networks, optimisers, statistics, average), and `run`, JSON with the
config, the provenance, the position, the data iterator and the running totals. `runs` says where they lie.
"""

import copy
import ctypes
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cmgan_jax.config import Config
from cmgan_jax.errors import UserError
from cmgan_jax.models.networks import Networks
from cmgan_jax.runs.folder import BEST, KEEP, LATEST, Checkpoint, steps_in
from cmgan_jax.runs.folder import newest_whole as newest_whole
from cmgan_jax.runs.folder import read_run as read_run
from cmgan_jax.system import checksums
from cmgan_jax.system.outputs import settle, sync
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.state import TrainState, random_state

_GONE = ("unlearnt",)
"""Fields of the state of earlier versions that hold nothing; a run whose `unlearnt` held a batch is refused before."""
UNFINISHED = ".unfinished"
"""Ends the name of a folder that is being written or deleted."""


class CheckpointStore:
    """Writes a run's checkpoints while the run goes on.

    One is written under another name, sealed with checksums, and renamed: what bears a step's number is whole. Those
    before it are deleted afterwards.

    The best one goes before the latest, and no later one before it: where it cannot be written, it is tried again with
    the next. So no latest checkpoint follows a best one that is lost, and a run that is killed meanwhile comes by it
    again.

    Of several hosts the first one writes: each has the whole state, so that none needs to wait for another's files, or
    for a host that has gone.

    Args:
        folder: the run folder.
        step: the step that the run begins at. What is left of later steps and of unfinished saves is deleted: an
            interrupted run comes by them again.
    """

    def __init__(self, folder: Path, step: int = 0):
        self._folders = {kind: folder.resolve() / kind for kind in KEEP}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._owed: tuple[int, TrainState, dict[str, Any]] | None = None
        self._first = jax.process_index() == 0
        if self._first:
            for kind in self._folders.values():
                kind.mkdir(exist_ok=True)
                sync(kind.parent)
                for path in kind.iterdir():
                    if UNFINISHED in path.name or (path.name.isdecimal() and int(path.name) > step):
                        delete(path)

    def save(self, step: int, state: TrainState, run: dict[str, Any], best: bool = False) -> None:
        """Begin to write a checkpoint, once the one before is written; `failure` tells how that went.

        Args:
            step: updates attempted.
            state: copied to the host before this returns, so that the next step may reuse its buffers.
            run: ready for JSON.
            best: it is the best so far, too.
        """
        if self._writing is not None:
            raise ValueError("ask for `failure` of the save before the next one")
        if self._first and step not in steps_in(self._folders[LATEST]):
            host = jax.tree.map(np.array, state)
            self._writing = self._thread.submit(self._write, step, host, copy.deepcopy(run), best)

    def failure(self, wait: bool) -> BaseException | None:
        """Why the last save failed, told once; None where it did not, or is still going on and `wait` is false."""
        if self._writing is None or not (wait or self._writing.done()):
            return None
        error, self._writing = self._writing.exception(), None
        return error

    @property
    def owed(self) -> int | None:
        """Step of the best checkpoint where it could not be written yet; to be asked after `failure`."""
        return None if self._owed is None else self._owed[0]

    def close(self) -> None:
        """Wait for what is being written."""
        self._thread.shutdown()

    def _write(self, step: int, state: TrainState, run: dict[str, Any], best: bool) -> None:
        try:
            if best:
                self._owed = step, state, run
            if self._owed is not None:
                self._put(BEST, *self._owed)
                self._owed = None
                self._prune(BEST)
            self._put(LATEST, step, state, run)
            self._prune(LATEST)
        finally:
            _give_back()

    def _put(self, kind: str, step: int, state: TrainState, run: dict[str, Any]) -> None:
        folder = self._folders[kind]
        staging = folder / f"{step}{UNFINISHED}"
        try:
            with _checkpointer() as writer:
                items = ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run))
                writer.save(staging, items, force=True)
            checksums.write(staging)
            if step in steps_in(folder):
                # It has its name from an attempt whose last act failed.
                delete(folder / str(step))
            settle(staging, folder / str(step))
        finally:
            # Orbax itself writes under this name and more; after a success nothing is left.
            for rest in folder.glob(f"{step}{UNFINISHED}*"):
                shutil.rmtree(rest, ignore_errors=True)

    def _prune(self, kind: str) -> None:
        for old in steps_in(self._folders[kind])[: -KEEP[kind]]:
            delete(self._folders[kind] / str(old))


def _give_back() -> None:
    """Give free memory back to the system, where that is glibc's to do.

    Orbax writes in a dozen threads that live for one save, between the buffers of steps, which then come to lie
    elsewhere: what is in use stays the same, but from save to save glibc holds more of it free. It takes 6 ms.
    """
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def delete(folder: Path) -> None:
    """Delete a checkpoint; one that is half deleted bears no step's number."""
    doomed = folder.with_name(folder.name.split(".")[0] + UNFINISHED + ".deleted")
    if folder != doomed:
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
    shutil.rmtree(doomed)


def restore(
    checkpoint: Checkpoint, config: Config, placement: Placement, networks: Networks | None = None
) -> TrainState:
    """Read the state onto this host's devices of a placement, whatever devices and hosts wrote it.

    Args:
        checkpoint: which one.
        config: the run's configuration.
        placement: the devices.
        networks: both networks, without an axis; None: those that the config names.

    Raises:
        UserError: the folder does not hold what the config describes.
    """
    described = placement.describe(jax.eval_shape(partial(random_state, config, networks)))
    target = {field.name: getattr(described, field.name) for field in fields(described)}
    gone = {name: None for name in _GONE if name in _saved(checkpoint)}
    try:
        read = _read(checkpoint, state=ocp.args.StandardRestore(target | gone))["state"]
        return TrainState(**{name: read[name] for name in target})
    except (ValueError, KeyError, FileNotFoundError) as error:
        if "block_0" in _saved(checkpoint).get("generator", {}).get("params", {}):
            raise UserError(
                f"{checkpoint}: an earlier revision wrote it, which kept each block's parameters apart. Its model can "
                "be used (cmgan enhance, evaluate, compare --start), but a run cannot go on from it"
            ) from error
        raise UserError(f"{checkpoint}: the checkpoint cannot be read ({error}). Use another one.") from error


def _saved(checkpoint: Checkpoint) -> Any:
    """What is in the state, by name; nothing where the checkpoint does not tell."""
    try:
        with _checkpointer(state=ocp.PyTreeCheckpointHandler(), run=ocp.JsonCheckpointHandler()) as reader:
            return reader.metadata(Path(str(checkpoint)).resolve()).item_metadata["state"].tree
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return {}


def _read(checkpoint: Checkpoint, **items: Any) -> Any:
    with _checkpointer() as reader:
        return reader.restore(Path(str(checkpoint)).resolve(), ocp.args.Composite(**items))


def _checkpointer(**items: Any) -> ocp.Checkpointer:
    """Orbax for this process alone: it waits for no other. Items: handlers of those whose metadata is asked for."""
    alone = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=alone, active_processes={alone})
    # The handler must be told as well: it makes folders, too, and else meets the other processes for that.
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options), **items
    )
    return ocp.Checkpointer(handler, multiprocessing_options=options)
