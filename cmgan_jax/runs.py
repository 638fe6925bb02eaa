"""A run folder as it lies on disk: where its checkpoints are, and which of them a person means.

run.json  metrics.jsonl  tensorboard/  latest/STEP (the last two)  best/STEP (the best by validation PESQ)

A checkpoint's folder is renamed to its step when it is complete, and `checksums` tells whether it still is.
"""

from dataclasses import dataclass
from pathlib import Path

from cmgan_jax.errors import UserError

ABOUT = "run.json"
LATEST, BEST = "latest", "best"
SET_ASIDE = "not_finite_{}.npz"
"""The batch of the step at which a run stopped because its loss or a gradient was not finite."""
KEEP = {LATEST: 2, BEST: 1}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        folder: its run folder.
        kind: `latest` or `best`.
        step: generator updates attempted when it was written.
    """

    folder: Path
    kind: str
    step: int

    def __str__(self) -> str:
        return str(self.folder / self.kind / str(self.step))


def steps_in(folder: Path) -> list[int]:
    """Steps whose checkpoints stand in a `latest` or `best` folder, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def expanded(path: Path) -> Path:
    """A path whose ~ is the home folder.

    Raises:
        UserError: it is that of a user who is not known here.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: no user of that name; check the path") from error


def find(path: Path, step: int | None = None, prefer: str = BEST) -> Checkpoint:
    """Locate a checkpoint from what a person names.

    Args:
        path: a run folder, its `latest` or `best`, or one checkpoint in it.
        step: which step of a run folder; None: the preferred kind's newest.
        prefer: `best` or `latest`, where a run folder has both.

    Raises:
        UserError: nothing is there; the message lists what is.
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
    raise UserError(f"{path}: {wanted} there ({listed}). Name a run folder that experiments.train wrote.")
