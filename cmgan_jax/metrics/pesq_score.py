"""Scores, reasons of failures, and the checks that detect some of PESQ's failures without computing it."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

SHORTEST = 0.25
"""Minimum length for PESQ in seconds."""
SILENT_RMS = 1e-4
"""Level below which a clean signal in [-1, 1] counts as silence (-80 dB, three steps of 16 bits). PESQ ignores level,
so it would score the noise of such a signal."""
SILENT_RATIO = 1e-12
"""Level relative to the clean signal below which an estimate counts as silence (-240 dB); slightly below, PESQ is
undefined."""


class Failure(StrEnum):
    """Why there is no score."""

    no_utterances = "no_utterances"
    """PESQ finds no speech in the clean signal."""
    too_short = "too_short"
    """The signals are shorter than `SHORTEST`."""
    non_finite = "non_finite"
    """The clean signal or the estimate has NaN or infinity."""
    silent_reference = "silent_reference"
    """The clean signal's level is below `SILENT_RMS`."""
    silent_estimate = "silent_estimate"
    """The estimate's level is below `SILENT_RATIO` times the clean signal's, where PESQ is undefined."""
    undefined = "undefined"
    """PESQ gave NaN or an impossible opinion score for another reason, or another metric gave NaN or infinity."""
    out_of_memory = "out_of_memory"
    """The worker reached its memory limit."""
    pesq_error = "pesq_error"
    """The pesq package raised any other error."""
    metric_error = "metric_error"
    """Another metric raised an error without a reason of its own."""
    timeout = "timeout"
    """The worker did not answer within the time limit."""
    worker_crash = "worker_crash"
    """The worker was killed, or crashed on the signal (more than 50 utterances cause that)."""
    injected = "injected"
    """The failure was injected for an experiment."""


@dataclass(frozen=True)
class Score:
    """The score of one pair, or the reason for its absence.

    Attributes:
        value: the score in the metric's unit, PESQ as raw MOS-LQO; NaN if it failed.
        failure: reason of the failure, a `Failure` or the reason of a metric's own `NoScore`; None if it succeeded.
        seconds: time from the request to the worker's answer; 0 if no worker was asked.
    """

    value: float
    failure: str | None
    seconds: float


def failed(failure: str, seconds: float = 0.0) -> Score:
    """Make a failed score with a reason."""
    return Score(math.nan, failure, seconds)


def named(reason: str) -> str:
    """Convert a reason to a `Failure`, or return it unchanged if it is a metric's own."""
    return Failure(reason) if reason in _KNOWN else reason


_KNOWN = frozenset(Failure)


def gate_finite(clean: np.ndarray, estimate: np.ndarray) -> Failure | None:
    """Check without computing any metric whether a pair can be scored: NaN and infinity have no score."""
    return None if np.isfinite(clean).all() and np.isfinite(estimate).all() else Failure.non_finite


def gate(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> Failure | None:
    """Check without computing PESQ whether a pair can be scored.

    Args:
        clean: float32[S] in [-1, 1], at its recorded level.
        estimate: float32[S].
        sample_rate: Hz.

    Returns:
        Reason why PESQ is not defined for the pair; None if it passes the check.
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
