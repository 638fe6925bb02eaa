"""Checkpoints in orbax: everything a run needs to go on, and how it came to be.

Each has two items: `state`, a `TrainState` (both networks, optimisers, statistics, average), and `run`, JSON with the
config, the provenance, the position, the data iterator and the epoch's running totals. `runs` says where they lie.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from cmgan_jax.config import Config
from cmgan_jax.errors import UserError
from cmgan_jax.runs import KEEP, Checkpoint
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.state import TrainState, random_state


class CheckpointStore:
    """Writes a run's checkpoints; a folder appears whole or not at all (orbax commits by renaming)."""

    def __init__(self, folder: Path):
        self._managers = {kind: _manager(folder / kind, KEEP[kind]) for kind in KEEP}

    def save(self, kind: str, step: int, state: TrainState, run: dict[str, Any]) -> None:
        """Write one checkpoint and wait for it: donated buffers are reused by the next step."""
        manager = self._managers[kind]
        if step in manager.all_steps():
            return
        manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run)), force=True
        )
        manager.wait_until_finished()

    def close(self) -> None:
        """Release the managers."""
        for manager in self._managers.values():
            manager.close()


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder.resolve(), item_names=("state", "run"), options=options)


def read_run(checkpoint: Checkpoint) -> dict[str, Any]:
    """The JSON item of a checkpoint: config, provenance, position."""
    with _manager(checkpoint.folder / checkpoint.kind, KEEP[checkpoint.kind]) as manager:
        restored = manager.restore(checkpoint.step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))
    return restored["run"]


def restore(checkpoint: Checkpoint, config: Config, placement: Placement) -> TrainState:
    """Read the state onto the devices of a placement, whatever devices wrote it.

    Raises:
        UserError: the folder does not hold what the config describes.
    """
    target = placement.describe(jax.eval_shape(partial(random_state, config)))
    try:
        with _manager(checkpoint.folder / checkpoint.kind, KEEP[checkpoint.kind]) as manager:
            restored = manager.restore(checkpoint.step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise UserError(f"{checkpoint}: the checkpoint cannot be read ({error}). Use another one.") from error
    return restored["state"]
