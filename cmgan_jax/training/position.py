"""Position of a run between two steps.

It includes running means and counts, which checkpoints store so that a resumed epoch reports the same values.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from cmgan_jax.runs.records import renamed, with_score
from cmgan_jax.training.health import Window


class Meter:
    """Accumulates values over a window or an epoch.

    Values are averaged, except that names ending in `_min` keep the lowest value, and those ending in `_count` the sum.
    """

    def __init__(self, saved: dict[str, Any] | None = None):
        saved = saved or {}
        self._sums: dict[str, float] = dict(saved.get("sums", {}))
        self._counts: dict[str, int] = dict(saved.get("counts", {}))
        self._failures: dict[str, int] = dict(saved.get("failures", {}))

    def add(self, values: dict[str, float], failures: dict[str, int]) -> None:
        """Add the values of one step; non-finite values are ignored."""
        for name, value in values.items():
            if not math.isfinite(value):
                continue
            if name.endswith("_min"):
                self._sums[name], self._counts[name] = min(self._sums.get(name, value), value), 1
            else:
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = 1 if name.endswith("_count") else self._counts.get(name, 0) + 1
        for reason, count in failures.items():
            self._failures[reason] = self._failures.get(reason, 0) + count

    def summary(self) -> dict[str, Any]:
        """Mean, minimum or sum of each value, and `failures`, the numbers of failed scores by reason."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        return means | {"failures": dict(self._failures)}

    def to_dict(self) -> dict[str, Any]:
        """The accumulated values, ready for JSON."""
        return {"sums": self._sums, "counts": self._counts, "failures": self._failures}


@dataclass
class Position:
    """Position of a run, saved in every checkpoint, so that a resumed run continues as if uninterrupted.

    Attributes:
        step: number of updates attempted.
        batches: state of the data iterator; None: at the beginning.
        window: totals since the last step record.
        epoch: totals since the epoch began.
        predictions: the discriminator's last predictions, with the true scores.
        best: best validation score so far, with its epoch; None: no epoch has a score of every held-out file.
        noisy: scores of the held-out files before enhancement; the files in `unscored` are left out of all epochs.
        not_finite: number of steps with a non-finite loss or gradient.
        in_a_row: number of such steps at the end, without a finite one in between.
    """

    step: int = 0
    batches: Any = None
    window: Meter = field(default_factory=Meter)
    epoch: Meter = field(default_factory=Meter)
    predictions: Window = field(default_factory=Window)
    best: dict[str, Any] | None = None
    noisy: dict[str, Any] | None = None
    not_finite: int = 0
    in_a_row: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The position, ready for JSON."""
        held = {name: getattr(self, name).to_dict() for name in ("window", "epoch", "predictions")}
        return vars(self) | held

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Position":
        """Restore a position from the result of `to_dict`, also of an earlier version."""
        saved = dict(saved)
        predictions = saved.pop("judged", None) or saved["predictions"]  # Earlier versions called them `judged`.
        meters = {
            name: Meter(saved[name] | {part: renamed(saved[name][part]) for part in ("sums", "counts")})
            for name in ("window", "epoch")
        }
        scores = {name: with_score(saved[name]) for name in ("best", "noisy") if saved.get(name) is not None}
        return cls(**{**saved, **meters, **scores, "predictions": Window(predictions)})
