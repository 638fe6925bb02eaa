"""How the discriminator's losses are distributed: left out, small, ordinary.

The published code logs exactly 0 for an update that it leaves out. A loss of 0.000003 is no such thing: there the
discriminator predicts its target. Printed with six decimals both can read 0.000000, so the rest of the losses has to
tell which it was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cmgan_jax.diagnosis.finding import Thresholds
from cmgan_jax.diagnosis.history import History

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Zeros = Literal["none", "skipped", "unclear"]


@dataclass(frozen=True)
class Losses:
    """The discriminator's losses over some steps.

    Attributes:
        count: losses seen; windows of steps where a run recorded means.
        zero: share that is 0 as written; NaN if unknown, as all that follow.
        small: share under the threshold, those that are 0 included.
        small_of_made: share under the threshold among those that are not 0.
        lowest: the smallest that is not 0.
        highest: the largest.
        quantiles: of those that are not 0, at `QUANTILES`; () if unknown.
        zeros: whether what is written as 0 was left out: `unclear` where rounding may have made it.
    """

    count: int
    zero: float
    small: float
    small_of_made: float
    lowest: float
    highest: float
    quantiles: tuple[float, ...]
    zeros: Zeros

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "disc_loss_zero": self.zero,
            "disc_loss_under_1e-3": self.small,
            "disc_loss_under_1e-3_of_made": self.small_of_made,
            "disc_loss_count": self.count,
            "disc_loss_lowest_not_zero": self.lowest,
            "disc_loss_highest": self.highest,
            "disc_loss_quantiles_not_zero": dict(zip(map(str, QUANTILES), self.quantiles, strict=False)),
            "disc_loss_zeros_are": self.zeros,
        }


def losses_of(history: History, rows: np.ndarray | None = None, thresholds: Thresholds | None = None) -> Losses:
    """Take stock of a history's discriminator losses.

    Args:
        history: a run's or a log's.
        rows: bool[n], the step records to look at; None: all.
        thresholds: what counts as small.
    """
    small = (thresholds or Thresholds()).small_loss
    if history.source.kind == "run":
        return _of_windows(history.trained if rows is None else lambda name: history.step(name)[rows])
    values = history.step("discriminator_loss")
    return _of_values(history, values if rows is None else values[rows], small)


def _of_values(history: History, values: np.ndarray, small: float) -> Losses:
    values = values[np.isfinite(values)]
    if not values.size:
        return Losses(0, np.nan, np.nan, np.nan, np.nan, np.nan, (), "none")
    made = values[values > 0]
    zero = values.size - made.size
    return Losses(
        count=values.size,
        zero=zero / values.size,
        small=float(np.mean(values < small)),
        small_of_made=float(np.mean(made < small)) if made.size else np.nan,
        lowest=float(made.min()) if made.size else np.nan,
        highest=float(values.max()),
        quantiles=tuple(float(q) for q in np.quantile(made, QUANTILES)) if made.size else (),
        zeros=_zeros(zero, made, history.source.resolution),
    )


def _zeros(zero: int, made: np.ndarray, resolution: float) -> Zeros:
    """Left out, if there are more zeros than the neighbouring decade makes likely to have been rounded to 0."""
    if zero == 0:
        return "none"
    if resolution == 0:
        return "skipped"
    # Losses spread over decades with one hump. Where it lies above 10 resolutions, the tail below half a resolution
    # holds less than the decade above it; where it lies lower, rounding may have made any number of zeros.
    decade = int(np.sum(made < 10 * resolution))
    hump_above = made.size > 0 and float(np.median(made)) > 100 * resolution
    return "skipped" if zero > max(2 * decade, 1) and (hump_above or not made.size) else "unclear"


def _of_windows(column: Callable[[str], np.ndarray]) -> Losses:
    """Of a run: each record is the mean over a window or an epoch, and carries the shares itself."""
    means, made = column("discriminator_loss"), column("discriminator_update")
    zero, small = (_mean(column(f"discriminator_loss_{name}")) for name in ("zero", "small"))
    zero = zero if np.isfinite(zero) else 1 - _mean(made)
    of_made = (small - zero) / (1 - zero) if zero < 1 else np.nan
    finite = means[np.isfinite(means)]
    return Losses(
        count=finite.size,
        zero=zero,
        small=small,
        small_of_made=max(of_made, 0.0) if np.isfinite(of_made) else np.nan,
        lowest=np.nan,
        highest=np.nan,
        quantiles=(),
        zeros="skipped" if zero > 0 else "none",
    )


def failing_samples(skipped: float, batch: int) -> float:
    """Share of failing samples that makes this share of batches hold at least one: 1 - (1 - skipped) ^ (1 / batch)."""
    return float(1 - (1 - skipped) ** (1 / batch))


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.mean(known)) if known.size else float("nan")
