"""The built-in metrics that a discriminator can learn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cmgan_jax.metrics.protocol import PESQ, NoScore

TOO_LITTLE_SPEECH = "too_little_speech"
"""Failure reason of STOI and ESTOI: there is less than 0.4 s of active speech."""


@dataclass(frozen=True)
class BuiltIn:
    """A metric of this package; see `protocol.Metric`.

    Attributes:
        compute: function of the clean signal, the estimate and the sample rate that returns the score or raises
            `NoScore`.
    """

    name: str
    low: float
    high: float
    unit: str
    compute: Callable[[np.ndarray, np.ndarray, int], float]
    higher_is_better: bool = True

    def score(self, clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
        """Score one pair; see `protocol.Metric.score`."""
        return self.compute(clean, estimate, sample_rate)


def _pesq(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    from cmgan_jax.metrics import pesq_score, scoring_worker

    if failure := pesq_score.gate(clean, estimate, sample_rate):
        raise NoScore(failure)
    outcome, value = scoring_worker.measure(sample_rate, "wb", clean, estimate)
    if outcome != "ok":
        raise NoScore(outcome)
    return value


def _composite(part: str) -> Callable[[np.ndarray, np.ndarray, int], float]:
    def compute(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
        from cmgan_jax.metrics import measures

        return getattr(measures.composite(clean, estimate, _pesq(clean, estimate, sample_rate), sample_rate), part)

    return compute


def _intelligibility(name: str) -> Callable[[np.ndarray, np.ndarray, int], float]:
    def compute(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
        from cmgan_jax.metrics import measures

        try:
            return getattr(measures, name)(clean, estimate, sample_rate)
        except ValueError as error:
            raise NoScore(TOO_LITTLE_SPEECH) from error

    return compute


def _si_sdr(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    from cmgan_jax.metrics import measures

    return float(measures.si_sdr(clean, estimate))


BUILT_IN: dict[str, BuiltIn] = {
    metric.name: metric
    for metric in (
        BuiltIn(PESQ.name, PESQ.low, PESQ.high, PESQ.unit, _pesq),
        BuiltIn("stoi", 0.0, 1.0, "", _intelligibility("stoi")),
        BuiltIn("estoi", 0.0, 1.0, "", _intelligibility("estoi")),
        BuiltIn("si_sdr", -10.0, 30.0, "dB", _si_sdr),
        BuiltIn("csig", 1.0, 5.0, "MOS", _composite("csig")),
        BuiltIn("cbak", 1.0, 5.0, "MOS", _composite("cbak")),
        BuiltIn("covl", 1.0, 5.0, "MOS", _composite("covl")),
    )
}
"""The built-in metrics by name. STOI and ESTOI can be negative and SI-SDR is unbounded; the ranges given here are those
that occur in speech enhancement, and `targets.clip` clips scores beyond."""
