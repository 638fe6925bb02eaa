"""Checkpoints, written with Orbax: everything that a run needs to continue, and its provenance.

Each has two items: `state`, a `TrainState` (both networks, optimisers, statistics, average), and `run`, JSON with the
config, the provenance, the position, the data iterator and the running totals. `runs` defines the folder layout.
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
"""Empty state fields of earlier versions, which are ignored; a run whose `unlearnt` has a batch is rejected earlier."""
UNFINISHED = ".unfinished"
"""Suffix of folders that are being written or deleted."""


class CheckpointStore:
    """Writes a run's checkpoints in the background.

    A checkpoint is written under a temporary name, gets checksums, and is renamed. So a folder that is named after its
    step is complete. Older checkpoints are deleted afterwards.

    The best checkpoint is written before the latest one. If it cannot be written, it is tried again at the next save,
    before any other. So there is never a latest checkpoint after a best one that is missing, and a run that is killed
    in between reaches the best one again.

    With several hosts, only the first one writes. Each host has the whole state, so none needs to wait for the files of
    another host, or for a host that has died.

    Args:
        folder: the run folder.
        step: step at which the run begins. Checkpoints of later steps and unfinished ones are deleted, since a resumed
            run reaches these steps again.
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
        """Begin to write a checkpoint; `failure` must be called for the previous one before.

        Args:
            step: number of updates attempted.
            state: copied to the host before this returns, so that the next step may reuse its buffers.
            run: JSON-serialisable item `run`.
            best: whether it is the best checkpoint so far.
        """
        if self._writing is not None:
            raise ValueError("ask for `failure` of the save before the next one")
        if self._first and step not in steps_in(self._folders[LATEST]):
            host = jax.tree.map(np.array, state)
            self._writing = self._thread.submit(self._write, step, host, copy.deepcopy(run), best)

    def failure(self, wait: bool) -> BaseException | None:
        """Error of the last save, returned once; None if it succeeded, or is still running and `wait` is false."""
        if self._writing is None or not (wait or self._writing.done()):
            return None
        error, self._writing = self._writing.exception(), None
        return error

    @property
    def owed(self) -> int | None:
        """Step of a best checkpoint that could not be written yet, or None; read it after `failure`."""
        return None if self._owed is None else self._owed[0]

    def close(self) -> None:
        """Wait for the checkpoint that is being written."""
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
                # An earlier attempt renamed the folder, and failed afterwards.
                delete(folder / str(step))
            settle(staging, folder / str(step))
        finally:
            # Orbax also uses names that extend this one; after a success, nothing is left.
            for rest in folder.glob(f"{step}{UNFINISHED}*"):
                shutil.rmtree(rest, ignore_errors=True)

    def _prune(self, kind: str) -> None:
        for old in steps_in(self._folders[kind])[: -KEEP[kind]]:
            delete(self._folders[kind] / str(old))


def _give_back() -> None:
    """Return free memory to the system, if the C library is glibc.

    Orbax allocates in a dozen threads that live for one save, which fragments the heap between the buffers of steps.
    Memory in use stays constant, but without this call glibc holds more free memory after every save. It takes 6 ms.
    """
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def delete(folder: Path) -> None:
    """Delete a checkpoint; it is renamed first, so that a partly deleted one is not taken for a checkpoint."""
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
        checkpoint: the checkpoint to read.
        config: the run's configuration.
        placement: the devices.
        networks: both networks, built without a device axis; None: those that the config names.

    Raises:
        UserError: the checkpoint does not match the config, or cannot be read.
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
    """Tree of the saved state by name, from the checkpoint's metadata; empty if that cannot be read."""
    try:
        with _checkpointer(state=ocp.PyTreeCheckpointHandler(), run=ocp.JsonCheckpointHandler()) as reader:
            return reader.metadata(Path(str(checkpoint)).resolve()).item_metadata["state"].tree
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return {}


def _read(checkpoint: Checkpoint, **items: Any) -> Any:
    with _checkpointer() as reader:
        return reader.restore(Path(str(checkpoint)).resolve(), ocp.args.Composite(**items))


def _checkpointer(**items: Any) -> ocp.Checkpointer:
    """Make a checkpointer for this process alone, which waits for no other; items: handlers to read metadata with."""
    alone = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=alone, active_processes={alone})
    # The handler needs the options as well: it also creates folders, and would synchronise with other processes.
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options), **items
    )
    return ocp.Checkpointer(handler, multiprocessing_options=options)
