"""Selection of the best epoch by the mean target metric, compared only over the same held-out files."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.runs.folder import BEST, Checkpoint, read_run, steps_in
from cmgan_jax.runs.records import with_score
from cmgan_jax.system import checksums
from cmgan_jax.training.position import Position


def improves(validation: dict[str, Any], best: dict[str, Any] | None, scale: Scale = PESQ) -> bool:
    """Whether an epoch is better than the best so far; an epoch that lacks the score of a file never is.

    Args:
        validation: scores of the epoch, from `validation.score_files`.
        best: scores of the best epoch so far, or None.
        scale: scale of the target metric.
    """
    return validation["complete"] and (best is None or scale.is_better(validation["score"], best["score"]))


def kept_best(folder: Path, position: Position, files: int, scale: Scale = PESQ) -> tuple[dict[str, Any] | None, str]:
    """Find the best epoch whose checkpoint exists, for a run that is resumed.

    The position may name another epoch, if its checkpoint was deleted or damaged, or if an earlier revision could not
    write it.

    Args:
        folder: the run folder.
        position: position from which the run is resumed; later checkpoints are ignored.
        files: number of held-out files.
        scale: scale of the target metric.

    Returns:
        Scores of the epoch as recorded in its checkpoint, or None if there is none to compare with; and a message for
        the user, which is empty unless this epoch differs from the one that the position names.
    """
    left_out = (position.noisy or {}).get("unscored", {})
    best, instead = None, "there is none"
    for step in reversed([step for step in steps_in(folder / BEST) if step <= position.step]):
        checkpoint = Checkpoint(folder, BEST, step)
        if damage := checksums.damage(Path(str(checkpoint))):
            instead = f"{checkpoint} is damaged ({damage})"
            continue
        best = read_run(checkpoint)["position"]["best"]
        if best is not None:
            best = with_score(best)
            instead = f"there is that of epoch {best['epoch']}"
            if not _is_of_all(best, files, left_out):
                best, instead = None, f"{instead}, whose score is of other files than are compared"
        break
    named = position.best
    if named is None or named["epoch"] == (best or {}).get("epoch"):
        return best, ""
    return best, (
        f"{folder / BEST} lacks the best model so far, of epoch {named['epoch']} "
        f"({scale.named(named['score'], '.3f')}): {instead}; later epochs are compared with what is there"
    )


def _is_of_all(best: dict[str, Any], files: int, left_out: Collection[str]) -> bool:
    """Whether scores cover all files that count; earlier revisions recorded means over whatever could be scored."""
    return best["scored"] == files - len(left_out) and set(best["unscored"]) <= set(left_out)
