"""Health measurements of the metric GAN: calibration of the discriminator, and weight of the adversarial term."""

from typing import Any, NamedTuple

import numpy as np

SMALL_LOSS = 1e-3
"""Discriminator losses below this count as small; this includes the loss of a skipped update, which is exactly 0."""


class Pairs(NamedTuple):
    """Predictions of the discriminator and true scores, both as unclipped targets (`Scale.target`).

    Attributes:
        predicted: float64[N].
        true: float64[N].
    """

    predicted: np.ndarray
    true: np.ndarray

    def finite(self) -> "Pairs":
        """The pairs of which both values are finite."""
        kept = np.isfinite(self.predicted) & np.isfinite(self.true)
        return Pairs(self.predicted[kept], self.true[kept])


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of float[N], counted from 1; equal values share their mean rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[group]


def rank_correlation(pairs: Pairs) -> float:
    """Spearman's rank correlation of finite pairs.

    Returns:
        -1 to 1; NaN if either side is constant or there are fewer than 2 pairs, since there is no order to compare.

    References:
        Spearman (1904), with mid-ranks for ties: Pearson's correlation of the ranks.
    """
    if len(pairs.predicted) < 2:
        return np.nan
    one, other = (of - np.mean(of) for of in map(ranks, pairs))
    spread = np.sqrt(np.sum(one**2) * np.sum(other**2))
    return float(np.sum(one * other) / spread) if spread > 0 else np.nan


def bias_and_error(pairs: Pairs) -> tuple[float, float]:
    """Mean difference (positive if predictions are too high) and mean absolute difference; NaN without pairs."""
    if not len(pairs.predicted):
        return np.nan, np.nan
    difference = pairs.predicted - pairs.true
    return float(np.mean(difference)), float(np.mean(np.abs(difference)))


def adversarial_part(others: float, adversarial: float, whole: float) -> dict[str, float]:
    """Measure the influence of the adversarial term on the generator's gradient, from norms alone.

    Args:
        others: norm of the gradient of the other terms.
        adversarial: norm of the gradient of the weighted adversarial term.
        whole: norm of the sum of both gradients.

    Returns:
        `adversarial_share`, the norm of the adversarial gradient over that of the sum, and `adversarial_cosine`, its
        cosine with the other gradient, by the law of cosines; NaN if a norm is 0 or not finite.
    """
    product = others * adversarial
    cosine = (whole**2 - others**2 - adversarial**2) / (2 * product) if product > 0 else np.nan
    return {
        "adversarial_share": adversarial / whole if whole > 0 else np.nan,
        "adversarial_cosine": min(max(cosine, -1.0), 1.0) if np.isfinite(cosine) else np.nan,
    }


class Window:
    """Sliding window of valid scores and the discriminator's predictions; checkpoints preserve it bit for bit.

    Args:
        saved: result of `to_dict`; None: an empty window.
    """

    def __init__(self, saved: dict[str, Any] | None = None):
        saved = saved or {"predicted": [], "true": []}
        self._predicted: list[float] = list(saved["predicted"])
        self._true: list[float] = list(saved["true"])

    def add(self, pairs: Pairs, longest: int) -> dict[str, float]:
        """Add the finite pairs of one step, and keep the last `longest` pairs.

        Returns:
            `rank_correlation`, `window_bias` and `window_error` over the window.
        """
        pairs = pairs.finite()
        self._predicted = [*self._predicted, *pairs.predicted.tolist()][-longest:]
        self._true = [*self._true, *pairs.true.tolist()][-longest:]
        held = Pairs(np.array(self._predicted), np.array(self._true))
        bias, error = bias_and_error(held)
        return {"rank_correlation": rank_correlation(held), "window_bias": bias, "window_error": error}

    def to_dict(self) -> dict[str, Any]:
        """Content of the window, ready for JSON."""
        return {"predicted": self._predicted, "true": self._true}
