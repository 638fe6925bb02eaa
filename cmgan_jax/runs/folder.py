"""Layout of a run folder, and how to find its checkpoints and records.

run.json  metrics.jsonl  tensorboard/  latest/STEP (the last two)  best/STEP (the best in validation)

A checkpoint's folder is renamed to its step when it is complete; `checksums` checks that it still is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmgan_jax.errors import UserError
from cmgan_jax.system import checksums
from cmgan_jax.system.inputs import read_limited


def started(about: Mapping[str, Any]) -> str | None:
    """Describe the weights that a run began with instead of random ones.

    Args:
        about: content of run.json.

    Returns:
        A sentence; None if the run began with random weights, or an earlier revision recorded nothing.
    """
    start = about.get("start")
    if not isinstance(start, Mapping) or "origin" not in start:
        return None
    which = f" ({start['generator']})" if start.get("generator") else ""
    step = f", step {start['step']}" if start.get("step") else ""
    discriminator = f", beside {start['discriminator']}" if start.get("discriminator") else ""
    return f"It began with the generator{which} of {start['origin']}{step}{discriminator}."


ABOUT = "run.json"
LATEST, BEST = "latest", "best"
SET_ASIDE = "not_finite_{}.npz"
"""File with the batch of the step at which a run stopped because its loss or a gradient was not finite."""
KEEP = {LATEST: 2, BEST: 1}

_LARGEST_RECORD = 64 << 20
"""Maximum size in bytes of a run's or a checkpoint's record, a thousand times that of any real one."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        folder: the run folder.
        kind: `latest` or `best`.
        step: number of generator updates attempted when it was written.
    """

    folder: Path
    kind: str
    step: int

    def __str__(self) -> str:
        return str(self.folder / self.kind / str(self.step))


def steps_in(folder: Path) -> list[int]:
    """Steps of the checkpoints in a `latest` or `best` folder, in ascending order."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def expanded(path: Path) -> Path:
    """Expand ~ in a path to the home folder.

    Raises:
        UserError: the user that the path names is unknown.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: no user of that name; check the path") from error


def find(path: Path, step: int | None = None, prefer: str = BEST) -> Checkpoint:
    """Find a checkpoint from a path that the user gives.

    Args:
        path: a run folder, its `latest` or `best`, or one checkpoint in it.
        step: step of the checkpoint in a run folder; None: the newest one of the preferred kind.
        prefer: `best` or `latest`, if a run folder has both.

    Raises:
        UserError: there is no such checkpoint; the message lists those that exist.
    """
    path = expanded(path).resolve()
    if path.name.isdecimal() and path.parent.name in KEEP:
        path, kinds, step = path.parent.parent, [path.parent.name], int(path.name)
    elif path.name in KEEP:
        path, kinds = path.parent, [path.name]
    else:
        kinds = sorted(KEEP, key=lambda kind: kind != prefer)
    present = {kind: steps_in(path / kind) for kind in kinds}
    for kind in kinds:
        for candidate in reversed(present[kind]):
            if step is None or candidate == step:
                return Checkpoint(path, kind, candidate)
    listed = "; ".join(f"{kind}: {steps or 'none'}" for kind, steps in present.items())
    wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
    raise UserError(f"{path}: {wanted} there ({listed}). Name a run folder that cmgan train wrote.")


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, that is, its record or at least a checkpoint."""
    return (folder / ABOUT).exists() or any(steps_in(folder / kind) for kind in KEEP)


def newest_whole(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Find the newest undamaged checkpoint, from which a run can be resumed.

    Args:
        folder: a run folder.

    Returns:
        The newest checkpoint whose checksums agree, or None if there is no checkpoint at all; and a line for each newer
        one that is damaged.

    Raises:
        UserError: all checkpoints are damaged.
    """
    found = [Checkpoint(folder, kind, step) for kind in (LATEST, BEST) for step in steps_in(folder / kind)]
    damaged = []
    for checkpoint in sorted(found, key=lambda each: each.step, reverse=True):
        reason = checksums.damage(Path(str(checkpoint)))
        if reason is None:
            return checkpoint, damaged
        damaged.append(f"{checkpoint} is damaged: {reason}")
    if damaged:
        raise UserError(
            "\n".join([f"{folder}: no checkpoint is whole:", *damaged, "begin anew with --overwrite, or another --out"])
        )
    return None, []


def read_run(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read the JSON item of a checkpoint: config, provenance, position.

    Raises:
        UserError: the item cannot be read.
    """
    path = Path(str(checkpoint)) / "run" / "metadata"
    try:
        return read_record(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}). Use another checkpoint.") from error


def read_about(folder: Path) -> dict[str, Any]:
    """Read run.json or, if that is missing or damaged, the same from the newest undamaged checkpoint.

    Raises:
        UserError: neither can be read.
    """
    try:
        about = read_record(folder / ABOUT)
        if isinstance(about.get("config"), dict):
            return about
        reason = "it has no config: cmgan train did not write it"
    except (OSError, ValueError) as error:
        reason = str(error)
    try:
        checkpoint, _ = newest_whole(folder)
    except UserError as error:
        raise UserError(f"{folder / ABOUT} cannot be read ({reason}), and\n{error}") from error
    if checkpoint is None:
        raise UserError(
            f"{folder / ABOUT} cannot be read ({reason}), and there is no checkpoint that says the same; begin the run "
            "anew with --overwrite"
        )
    about = read_run(checkpoint)
    about.pop("position", None)
    return about


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is larger than any record.
        ValueError: the file does not hold a JSON object.
    """
    try:
        content = json.loads(read_limited(path, _LARGEST_RECORD))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("it holds no record")
    return content
