"""Running means and counts that survive a checkpoint, so that a resumed epoch reports what an unbroken one would."""

import math
from typing import Any


class Meter:
    """Means of numbers and sums of counts, over a window or an epoch.

    A number is averaged; one whose name ends in `_min` keeps its lowest value, one in `_count` adds up.
    """

    def __init__(self, saved: dict[str, Any] | None = None):
        saved = saved or {}
        self._sums: dict[str, float] = dict(saved.get("sums", {}))
        self._counts: dict[str, int] = dict(saved.get("counts", {}))
        self._failures: dict[str, int] = dict(saved.get("failures", {}))

    def add(self, numbers: dict[str, float], failures: dict[str, int]) -> None:
        """Take in one step; what is not finite has no part in a mean."""
        for name, value in numbers.items():
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
