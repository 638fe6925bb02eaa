"""What the metric-GAN is doing, from its own measurements: here, whether the discriminator knows what it scores."""

from typing import Any, NamedTuple

import numpy as np

SMALL_LOSS = 1e-3
"""A discriminator loss below this counts as small; that of a skipped update, exactly 0, is one of them."""


class Pairs(NamedTuple):
    """What the discriminator predicted, and what is true: scores as targets, not clipped (`Scale.target`).

    Attributes:
        predicted: float64[N].
        true: float64[N].
    """

    predicted: np.ndarray
    true: np.ndarray

    def finite(self) -> "Pairs":
        """Those of which both are finite."""
        kept = np.isfinite(self.predicted) & np.isfinite(self.true)
        return Pairs(self.predicted[kept], self.true[kept])


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 of float[N]; equal values share the mean of theirs."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[group]


def rank_correlation(pairs: Pairs) -> float:
    """Spearman's rank correlation of finite pairs.

    Returns:
        -1 to 1; NaN where either side is constant or there are fewer than 2 pairs: then there is no order to compare.

    References:
        Spearman (1904), with mid-ranks for ties: Pearson's correlation of the ranks.
    """
    if len(pairs.predicted) < 2:
        return np.nan
    one, other = (of - np.mean(of) for of in map(ranks, pairs))
    spread = np.sqrt(np.sum(one**2) * np.sum(other**2))
    return float(np.sum(one * other) / spread) if spread > 0 else np.nan


def bias_and_error(pairs: Pairs) -> tuple[float, float]:
    """Mean difference (positive: it scores too high) and mean absolute difference; NaN without a pair."""
    if not len(pairs.predicted):
        return np.nan, np.nan
    difference = pairs.predicted - pairs.true
    return float(np.mean(difference)), float(np.mean(np.abs(difference)))


def adversarial_part(others: float, adversarial: float, whole: float) -> dict[str, float]:
    """What the adversarial term has to say in the generator's gradient, from norms alone.

    Args:
        others: norm of the gradient of the other terms.
        adversarial: of the adversarial term's, weighted.
        whole: of their sum's.

    Returns:
        `adversarial_share`, its norm over that of the whole, and `adversarial_cosine` with the others, by the law of
        cosines; NaN where a norm is 0 or not finite.
    """
    product = others * adversarial
    cosine = (whole**2 - others**2 - adversarial**2) / (2 * product) if product > 0 else np.nan
    return {
        "adversarial_share": adversarial / whole if whole > 0 else np.nan,
        "adversarial_cosine": min(max(cosine, -1.0), 1.0) if np.isfinite(cosine) else np.nan,
    }


class Window:
    """The last valid scores and what the discriminator predicted of them; it survives a checkpoint bit for bit.

    Args:
        saved: what `to_dict` wrote; None: empty.
    """

    def __init__(self, saved: dict[str, Any] | None = None):
        saved = saved or {"predicted": [], "true": []}
        self._predicted: list[float] = list(saved["predicted"])
        self._true: list[float] = list(saved["true"])

    def add(self, pairs: Pairs, longest: int) -> dict[str, float]:
        """Take in one step's pairs and keep the last ones; a pair that is not finite is left out.

        Returns:
            `rank_correlation`, `window_bias` and `window_error` of all that it holds.
        """
        pairs = pairs.finite()
        self._predicted = [*self._predicted, *pairs.predicted.tolist()][-longest:]
        self._true = [*self._true, *pairs.true.tolist()][-longest:]
        held = Pairs(np.array(self._predicted), np.array(self._true))
        bias, error = bias_and_error(held)
        return {"rank_correlation": rank_correlation(held), "window_bias": bias, "window_error": error}

    def to_dict(self) -> dict[str, Any]:
        """Everything held, ready for JSON."""
        return {"predicted": self._predicted, "true": self._true}
