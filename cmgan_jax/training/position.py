"""Where a run stands between two steps.

Running means and counts that survive a checkpoint, so that a resumed epoch reports what an unbroken one would.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from cmgan_jax.runs.records import renamed, with_score
from cmgan_jax.training.health import Window


class Meter:
    """Means of values and sums of counts, over a window or an epoch.

    A number is averaged; one whose name ends in `_min` keeps its lowest value, one in `_count` adds up.
    """

    def __init__(self, saved: dict[str, Any] | None = None):
        saved = saved or {}
        self._sums: dict[str, float] = dict(saved.get("sums", {}))
        self._counts: dict[str, int] = dict(saved.get("counts", {}))
        self._failures: dict[str, int] = dict(saved.get("failures", {}))

    def add(self, values: dict[str, float], failures: dict[str, int]) -> None:
        """Take in one step; what is not finite has no part in a mean."""
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
        """Mean, minimum or sum of each number; `failures`: scores that failed, by reason."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        return means | {"failures": dict(self._failures)}

    def to_dict(self) -> dict[str, Any]:
        """Everything held, ready for JSON."""
        return {"sums": self._sums, "counts": self._counts, "failures": self._failures}


@dataclass
class Position:
    """Where a run stands; saved in every checkpoint, so that a resumed run goes on as if nothing had happened.

    Attributes:
        step: updates attempted.
        batches: state of the data iterator; None: at the beginning.
        window: totals since the last step record.
        epoch: totals since the epoch began.
        predictions: the discriminator's last predictions beside the true scores.
        best: best validation score so far, with its epoch; None: no epoch has a score of every held-out file.
        noisy: scores of the held-out files as they are; `unscored` are those that no epoch is to score.
        not_finite: steps whose loss or gradient was not finite.
        in_a_row: how many of them were the last ones.
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
        """Ready for JSON."""
        held = {name: getattr(self, name).to_dict() for name in ("window", "epoch", "predictions")}
        return vars(self) | held

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Position":
        """What `to_dict` wrote, also in an earlier version."""
        saved = dict(saved)
        predictions = saved.pop("judged", None) or saved["predictions"]  # Earlier versions called them `judged`.
        meters = {
            name: Meter(saved[name] | {part: renamed(saved[name][part]) for part in ("sums", "counts")})
            for name in ("window", "epoch")
        }
        scores = {name: with_score(saved[name]) for name in ("best", "noisy") if saved.get(name) is not None}
        return cls(**{**saved, **meters, **scores, "predictions": Window(predictions)})
