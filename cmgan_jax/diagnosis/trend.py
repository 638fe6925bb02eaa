"""The fall of a validation curve below its best, compared with the noise."""

from dataclasses import dataclass

import numpy as np

SPAN = 3
"""Number of neighbouring epochs that a best is the mean of, as a single epoch may be lucky."""


@dataclass(frozen=True)
class Fall:
    """The difference between the best and the end of a curve that should rise.

    Attributes:
        span: number of epochs at the end whose mean is compared.
        drop: best mean of `SPAN` neighbouring epochs minus the mean at the end; negative if the end is the best.
        noise: standard deviation of a single epoch's noise.
        best: the best single value among those epochs.
        best_at: index of that value in the curve.
        since: index of the first value after it from which on all values lie in the lower half of the drop.
        last: the last value.
        lowest: the lowest value from there on.
        highest: the highest value from there on.
    """

    span: int
    drop: float
    noise: float
    best: float
    best_at: int
    since: int
    last: float
    lowest: float
    highest: float


def noise_of(values: np.ndarray) -> float:
    """Estimate the standard deviation of a single epoch's noise, robust to a trend and to a single jump.

    It is the median distance of a value from the mean of its neighbours, scaled as for a normal distribution; 0 for
    fewer than 3 values.
    """
    if values.size < 3:
        return 0.0
    bends = values[1:-1] - (values[:-2] + values[2:]) / 2
    return float(1.4826 * np.median(np.abs(bends)) / np.sqrt(1.5))


def fall_of(values: np.ndarray, span: int = SPAN) -> Fall | None:
    """Compare a curve's end with its best.

    Args:
        values: float[m], finite, one per epoch; higher is better.
        span: number of epochs at the end.

    Returns:
        The fall, or None if the curve is too short to have a best before its end.
    """
    before = values[: values.size - span]
    if before.size < 2:
        return None
    width = min(SPAN, before.size)
    means = np.convolve(before, np.ones(width) / width, "valid")
    first = int(np.argmax(means))
    best_at = first + int(np.argmax(before[first : first + width]))
    drop = float(means[first] - np.mean(values[-span:]))
    middle = means[first] - drop / 2
    above = np.flatnonzero(values >= middle)
    since = int(above[-1]) + 1 if above.size else 0
    lower = values[since:] if since < values.size else values[-1:]
    return Fall(
        span=span,
        drop=drop,
        # The noise is that of the values up to the best, and at least half of all: a collapsed training has other
        # noise.
        noise=noise_of(values[: max(first + width, values.size // 2)]),
        best=float(values[best_at]),
        best_at=best_at,
        since=min(since, values.size - 1),
        last=float(values[-1]),
        lowest=float(lower.min()),
        highest=float(lower.max()),
    )


def deepest(values: np.ndarray, drops: tuple[float, ...], noises: tuple[float, ...]) -> Fall | None:
    """Return the fall over the longest span whose drop exceeds both thresholds, or None.

    Args:
        values: float[m], finite.
        drops: minimum drop for the mean of the last 1, 2, … values.
        noises: the same in standard deviations of the noise.
    """
    for span in range(len(drops), 0, -1):
        fall = fall_of(values, span)
        if fall and fall.drop >= max(drops[span - 1], noises[span - 1] * fall.noise):
            return fall
    return None
