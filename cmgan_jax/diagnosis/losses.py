"""The distribution of the discriminator's losses: skipped updates, small losses and ordinary ones.

The published code logs exactly 0 for an update that it skips. A loss of 0.000003 is something else: there the
discriminator predicts its target. Printed with six decimals both can read 0.000000, so the other losses must show which
it was.
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
        count: number of losses; of windows of steps where a run recorded means.
        zero: share that is printed as 0; NaN if unknown, as for all that follow.
        small: share below the threshold, zeros included.
        small_of_made: share below the threshold among the non-zero losses.
        lowest: the smallest non-zero loss.
        highest: the largest loss.
        quantiles: quantiles of the non-zero losses at `QUANTILES`; () if unknown.
        zeros: whether printed zeros are skipped updates; `unclear` where they may come from rounding.
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
        """Convert to plain values for JSON."""
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
    """Summarise a history's discriminator losses.

    Args:
        history: the history of a run or a log.
        rows: bool[n] selects step records; None selects all.
        thresholds: define a small loss.
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
    """Zeros are skipped updates if there are more than rounding explains, given the neighbouring decade of losses."""
    if zero == 0:
        return "none"
    if resolution == 0:
        return "skipped"
    # Losses spread over decades with one mode. If it lies above 10 resolutions, fewer losses lie below half a
    # resolution than in the decade above; if it lies lower, rounding may have made any number of zeros.
    decade = int(np.sum(made < 10 * resolution))
    hump_above = made.size > 0 and float(np.median(made)) > 100 * resolution
    return "skipped" if zero > max(2 * decade, 1) and (hump_above or not made.size) else "unclear"


def _of_windows(column: Callable[[str], np.ndarray]) -> Losses:
    """Summarise the losses of a run, whose records are means over a window or an epoch and hold the shares."""
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
    """Share of failing samples for which this share of batches has at least one: 1 - (1 - skipped) ^ (1 / batch)."""
    return float(1 - (1 - skipped) ** (1 / batch))


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.mean(known)) if known.size else float("nan")
