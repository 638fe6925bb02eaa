"""Summaries of many files' scores: means with confidence intervals, and missing scores by name and reason."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from cmgan_jax.errors import printable
from cmgan_jax.evaluation.scores import METRICS, NARROW, FileScores


@dataclass(frozen=True)
class Statistic:
    """Statistics of one measure over files.

    Attributes:
        mean: mean over the files that have it; None without any.
        std: sample standard deviation (n - 1); None below two files.
        low: lower end of the 95 % bootstrap interval of the mean; None below two files.
        high: upper end of it.
        n: number of files that have it.
    """

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Missing:
    """A file that lacks some measures, and one reason."""

    name: str
    metrics: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Summary:
    """The summary of a set of files.

    Attributes:
        statistics: statistics by measure.
        total: number of files.
        scored: number of files that have every measure.
        missing: the other files, by name and reason.
    """

    statistics: dict[str, Statistic]
    total: int
    scored: int
    missing: tuple[Missing, ...]

    def lines(self) -> list[str]:
        """Return `N scored of M`, and a line for each file and reason with missing measures."""
        return [f"{self.scored} scored of {self.total}"] + [
            f"{printable(gap.name)}: no {', '.join(gap.metrics)}: {gap.reason}" for gap in self.missing
        ]


def summarise(scores: Iterable[FileScores], *, seed: int = 0, resamples: int = 10_000) -> Summary:
    """Compute mean, standard deviation and 95 % bootstrap interval of each measure, and list what is missing.

    Args:
        scores: scores of any files.
        seed: seed of the resampling, so that the same scores give the same interval.
        resamples: number of draws of as many files as there are, with replacement; the interval runs from the 2.5th to
            the 97.5th percentile of their means.

    Returns:
        The summary; each measure is taken over the files that have it.
    """
    files = list(scores)
    names = [name for name in (*METRICS, NARROW) if any(name in f.values or name in f.reasons for f in files)]
    statistics = {
        name: _statistic(np.array([f.values[name] for f in files if name in f.values]), seed, resamples)
        for name in names
    }
    missing = tuple(
        Missing(f.name, tuple(name for name in f.reasons if f.reasons[name] == reason), reason)
        for f in files
        for reason in dict.fromkeys(f.reasons.values())
    )
    return Summary(statistics, len(files), sum(not f.reasons for f in files), missing)


def to_json(scores: Iterable[FileScores], summary: Summary, *, published_scale: bool = False) -> dict[str, object]:
    """Convert to plain containers for JSON without NaN: a missing number is null, with the reason beside it."""
    return {
        "scale": "published ([-1, 1])" if published_scale else "16-bit",
        "files": [
            {"name": f.name}
            | {name: f.values.get(name) for name in (*METRICS, NARROW) if name in f.values or name in f.reasons}
            | {"reasons": f.reasons, "notes": list(f.notes)}
            for f in scores
        ],
        "summary": {name: asdict(statistic) for name, statistic in summary.statistics.items()},
        "scored": summary.scored,
        "total": summary.total,
        "missing": [asdict(gap) | {"metrics": list(gap.metrics)} for gap in summary.missing],
    }


def _statistic(values: np.ndarray, seed: int, resamples: int) -> Statistic:
    if values.size == 0:
        return Statistic(None, None, None, None, 0)
    mean = float(values.mean())
    if values.size == 1:
        return Statistic(mean, None, None, None, 1)
    # In blocks, because ten thousand draws of a large set would not fit in memory at once.
    generator = np.random.default_rng(seed)
    block = max(1, 4_000_000 // values.size)
    means = np.concatenate(
        [
            values[generator.integers(values.size, size=(min(block, resamples - done), values.size))].mean(axis=1)
            for done in range(0, resamples, block)
        ]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return Statistic(mean, float(values.std(ddof=1)), float(low), float(high), int(values.size))
