"""Which epoch is the best: by the mean of the target metric, compared over the same held-out files alone."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.runs.folder import BEST, Checkpoint, read_run, steps_in
from cmgan_jax.runs.records import with_score
from cmgan_jax.system import checksums
from cmgan_jax.training.position import Position


def improves(validation: dict[str, Any], best: dict[str, Any] | None, scale: Scale = PESQ) -> bool:
    """Whether an epoch is better than the best so far; one that lacks the score of a file is not.

    Args:
        validation: scores of the epoch, `validation.score_files`.
        best: those of the best one so far, or None.
        scale: of the target metric.
    """
    return validation["complete"] and (best is None or scale.is_better(validation["score"], best["score"]))


def kept_best(folder: Path, position: Position, files: int, scale: Scale = PESQ) -> tuple[dict[str, Any] | None, str]:
    """The best epoch that a run may go on from: the one whose checkpoint is there.

    The position may name another: its checkpoint was deleted or damaged, or an earlier revision could not write it.

    Args:
        folder: the run folder.
        position: where the run goes on; later checkpoints do not count.
        files: number of held-out files.
        scale: of the target metric.

    Returns:
        Scores of the epoch as its own checkpoint records them, or None where there is none to compare with; and what a
        person should know where that is not the epoch that the position names.
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
    """Whether scores are of all files that count: earlier revisions recorded means of whatever could be scored."""
    return best["scored"] == files - len(left_out) and set(best["unscored"]) <= set(left_out)
