"""The protocol of metrics that training can use as targets, and the scale that maps their scores to targets."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import numpy as np

from cmgan_jax.errors import UserError

Scores = TypeVar("Scores", float, np.ndarray)

LABELS = {
    "pesq": "PESQ",
    "stoi": "STOI",
    "estoi": "ESTOI",
    "si_sdr": "SI-SDR",
    "csig": "CSIG",
    "cbak": "CBAK",
    "covl": "COVL",
}
"""Names of the built-in metrics in messages and charts."""


@runtime_checkable
class Metric(Protocol):
    """Scores an estimate against its clean reference.

    Training calls `score` in worker processes, so a metric must be in a module that other processes can import. Within
    one process, calls never run concurrently.
    """

    @property
    def name(self) -> str:
        """Name in records, reports and curves: a letter, then letters, digits and underscores."""
        ...

    @property
    def low(self) -> float:
        """Lower end of the range of scores; a training maps it to the target 0, or to 1 where lower is better."""
        ...

    @property
    def high(self) -> float:
        """Upper end of the range, above `low`; a training maps it to the target 1, or to 0 where lower is better."""
        ...

    @property
    def unit(self) -> str:
        """Unit of the scores, such as dB; empty if they have none."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether higher scores are better."""
        ...

    def score(self, clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
        """Score one pair.

        Args:
            clean: float32[S] in [-1, 1], the clean reference at its recorded level.
            estimate: float32[S], the estimate; its level may differ.
            sample_rate: in Hz.

        Returns:
            The score, which may lie beyond the range. A non-finite score counts as missing.

        Raises:
            NoScore: the pair has no score.
        """
        ...


class NoScore(ValueError):
    """A pair has no score; records count the reasons.

    Args:
        reason: a short word such as `no_speech`; characters other than letters, digits and underscores are replaced.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Scale:
    """Name, unit and range of a metric, without the code that computes it; stored in the records of a run.

    Attributes:
        name: see `Metric.name`.
        low: see `Metric.low`.
        high: see `Metric.high`.
        unit: see `Metric.unit`.
        higher_is_better: see `Metric.higher_is_better`.
    """

    name: str
    low: float
    high: float
    unit: str = ""
    higher_is_better: bool = True

    @property
    def label(self) -> str:
        """Name of the metric in messages."""
        return LABELS.get(self.name, self.name)

    @property
    def span(self) -> float:
        """Width of the range in the metric's unit, which is the distance between the targets 0 and 1."""
        return self.high - self.low

    @property
    def axis(self) -> str:
        """Label of a chart's axis: the unit, or the name where there is none."""
        return self.unit or self.label

    @property
    def range_in_words(self) -> str:
        """Sentence that says which scores the targets 0 and 1 correspond to."""
        worst, best = (self.low, self.high) if self.higher_is_better else (self.high, self.low)
        return f"The targets 0 and 1 are a {self.label} of {self.amount(worst, 'g')} and {self.amount(best, 'g')}."

    @property
    def worse(self) -> str:
        """Side of a score on which worse scores lie: `below` or `above`."""
        return "below" if self.higher_is_better else "above"

    def target(self, scores: Any, clip: bool) -> np.ndarray:
        """Map scores to targets for a sigmoid.

        Args:
            scores: in the metric's unit, any shape; NaN stays NaN.
            clip: clip targets to [0, 1]; otherwise scores beyond the range map to targets beyond it.

        Returns:
            (score - low) / (high - low), or (high - score) / (high - low) if lower is better, with the same shape.
        """
        scores = np.asarray(scores)
        target = (scores - self.low if self.higher_is_better else self.high - scores) / self.span
        return np.clip(target, 0.0, 1.0) if clip else target

    def score_of(self, target: np.ndarray) -> np.ndarray:
        """Map targets back to scores in the metric's unit; the inverse of `target` without clipping."""
        return self.low + self.span * target if self.higher_is_better else self.high - self.span * target

    def oriented(self, scores: Scores) -> Scores:
        """Scores, negated if lower is better, so that higher is always better."""
        return scores if self.higher_is_better else -scores

    def is_better(self, one: float, other: float) -> bool:
        """Whether the first score is better than the second."""
        return one > other if self.higher_is_better else one < other

    def amount(self, value: float, form: str = ".2f") -> str:
        """Format a score, or a difference of scores, with its unit."""
        return f"{value:{form}} {self.unit}".rstrip()

    def named(self, score: float, form: str = ".2f") -> str:
        """Format a score with the metric's name and its unit, which is omitted for MOS."""
        return f"{self.label} {score:{form}}" + (f" {self.unit}" if self.unit not in ("", "MOS") else "")

    def to_dict(self) -> dict[str, Any]:
        """Name, range, unit and direction, ready for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, metric: Metric) -> Self:
        """The scale of a metric."""
        return cls(metric.name, float(metric.low), float(metric.high), metric.unit, metric.higher_is_better)

    @classmethod
    def of_run(cls, about: Mapping[str, Any]) -> Self:
        """The scale of a recorded run's target metric; runs of earlier versions used PESQ.

        Args:
            about: content of run.json.

        Raises:
            UserError: the recorded scale is damaged.
        """
        recorded = about.get("target_metric")
        if recorded is None:
            return cls(*_PESQ)
        try:
            return cls(**recorded)
        except TypeError as error:
            raise UserError(
                f"run.json is damaged: target_metric is {recorded!r}, which is no metric; put back a copy of the file"
            ) from error


_PESQ = ("pesq", 1.0, 4.5, "MOS")
PESQ = Scale(*_PESQ)
"""Wide-band PESQ. The best score, 4.64, lies above the range, as in the published training."""
