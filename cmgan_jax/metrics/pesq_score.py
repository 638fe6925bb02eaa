"""A score, the reasons for not having one, and those of PESQ's that show without computing it."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

SHORTEST = 0.25
"""Seconds that PESQ needs at least."""
SILENT_RMS = 1e-4
"""A clean signal in [-1, 1] below this level (-80 dB, three steps of 16 bits) is silence. PESQ ignores level: it
would score the noise in it."""
SILENT_RATIO = 1e-12
"""An estimate this far below the clean signal (-240 dB) is silence; PESQ is undefined a little further down."""


class Failure(StrEnum):
    """Why there is no score."""

    no_utterances = "no_utterances"
    """PESQ hears no speech in the clean signal."""
    too_short = "too_short"
    """Shorter than `SHORTEST`."""
    non_finite = "non_finite"
    """NaN or infinity in the clean signal or the estimate."""
    silent_reference = "silent_reference"
    """The clean signal's level is below `SILENT_RMS`."""
    silent_estimate = "silent_estimate"
    """The estimate's level is below `SILENT_RATIO` times the clean signal's; PESQ is not defined."""
    undefined = "undefined"
    """PESQ gave NaN, or a number that no opinion score can be, for another reason. Another metric gave NaN or
    infinity."""
    out_of_memory = "out_of_memory"
    """The worker reached its memory limit."""
    pesq_error = "pesq_error"
    """Any other error of the pesq package."""
    metric_error = "metric_error"
    """Another metric raised an error that has no reason of its own."""
    timeout = "timeout"
    """No answer within the time limit."""
    worker_crash = "worker_crash"
    """The worker died: killed, or crashed on the signal (more than 50 utterances do that)."""
    injected = "injected"
    """Made to fail, for an experiment."""


@dataclass(frozen=True)
class Score:
    """The score of one pair, or the reason for its absence.

    Attributes:
        value: in the metric's unit, PESQ as raw MOS-LQO; NaN if it failed.
        failure: why it failed: a `Failure`, or the word of a metric's own `NoScore`; None if it did not.
        seconds: from the worker's being asked to its answer; 0 if it was not asked.
    """

    value: float
    failure: str | None
    seconds: float


def failed(failure: str, seconds: float = 0.0) -> Score:
    """The score that is none, for a reason."""
    return Score(math.nan, failure, seconds)


def named(reason: str) -> str:
    """The `Failure` of a reason, or the reason as it is where a metric gave one of its own."""
    return Failure(reason) if reason in _KNOWN else reason


_KNOWN = frozenset(Failure)


def gate_finite(clean: np.ndarray, estimate: np.ndarray) -> Failure | None:
    """What can be told of any metric without computing it: NaN and infinity have no score."""
    return None if np.isfinite(clean).all() and np.isfinite(estimate).all() else Failure.non_finite


def gate(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> Failure | None:
    """What can be told without computing PESQ.

    Args:
        clean: float32[S] in [-1, 1], at its recorded level.
        estimate: float32[S].
        sample_rate: Hz.

    Returns:
        Why PESQ has no meaning here; None if it has one.
    """
    if clean.size < SHORTEST * sample_rate:
        return Failure.too_short
    # In float64 the square of any finite float32 is finite.
    reference, level = (math.sqrt(np.mean(np.square(x, dtype=np.float64))) for x in (clean, estimate))
    if not (math.isfinite(reference) and math.isfinite(level)):
        return Failure.non_finite
    if reference < SILENT_RMS:
        return Failure.silent_reference
    if level < SILENT_RATIO * reference:
        return Failure.silent_estimate
    return None
