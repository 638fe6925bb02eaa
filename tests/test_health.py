"""Whether the discriminator knows what it scores: rank correlation, bias and error, over a window that is saved."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from cmgan_jax.training.health import Pairs, Window, adversarial_part, bias_and_error, rank_correlation, ranks


def pairs(predicted: object, true: object) -> Pairs:
    return Pairs(np.asarray(predicted, np.float64), np.asarray(true, np.float64))


def test_ranks_by_hand() -> None:
    """Two that share places 2 and 3 both have 2.5."""
    np.testing.assert_array_equal(ranks(np.array([0.3, 0.1, 0.3, 0.9])), [2.5, 1.0, 2.5, 4.0])


@pytest.mark.parametrize("levels", [4, 1000])
def test_rank_correlation_is_scipy_s(levels: int) -> None:
    """With many ties, and with next to none."""
    rng = np.random.default_rng(levels)
    for _ in range(20):
        true = rng.integers(0, levels, 60) / levels
        predicted = np.round((true + rng.normal(0, 0.5, 60)) * levels) / levels
        expected, _ = stats.spearmanr(predicted, true)
        assert rank_correlation(pairs(predicted, true)) == pytest.approx(expected, abs=1e-12)


def test_order_alone_counts() -> None:
    true = np.array([0.1, 0.2, 0.4, 0.8])
    assert rank_correlation(pairs(true**3, true)) == pytest.approx(1.0)
    assert rank_correlation(pairs(-true, true)) == pytest.approx(-1.0)


@pytest.mark.parametrize("predicted", [[], [0.5], [0.5, 0.5, 0.5]])
def test_no_order_no_correlation(predicted: list[float]) -> None:
    assert math.isnan(rank_correlation(pairs(predicted, np.arange(len(predicted)))))


def test_bias_and_error_by_hand() -> None:
    bias, error = bias_and_error(pairs([0.5, 0.25], [0.25, 0.75]))
    assert (bias, error) == (-0.125, 0.375)
    assert all(map(math.isnan, bias_and_error(pairs([], []))))


def test_the_adversarial_part_from_norms() -> None:
    """A right angle of sides 4 and 3, whose sum is 5 long; sides that point the same way, and against each other."""
    assert adversarial_part(4.0, 3.0, 5.0) == {"adversarial_share": 0.6, "adversarial_cosine": 0.0}
    assert adversarial_part(3.0, 1.0, 4.0) == {"adversarial_share": 0.25, "adversarial_cosine": 1.0}
    assert adversarial_part(3.0, 1.0, 2.0) == {"adversarial_share": 0.5, "adversarial_cosine": -1.0}
    # Without a weight the term has no direction; rounding takes no cosine beyond 1.
    assert adversarial_part(2.0, 0.0, 2.0)["adversarial_share"] == 0.0
    assert math.isnan(adversarial_part(2.0, 0.0, 2.0)["adversarial_cosine"])
    assert adversarial_part(3.0, 1.0, 4.0001)["adversarial_cosine"] == 1.0
    assert all(map(math.isnan, adversarial_part(1.0, math.nan, math.nan).values()))


def test_a_window_forgets_and_leaves_out_what_is_not_finite() -> None:
    """Of five pairs one is not finite, and the last three remain: their bias is 0.25 by hand."""
    window = Window()
    window.add(pairs([9.0, 0.5], [0.0, 0.25]), longest=3)
    numbers = window.add(pairs([0.5, np.nan, 0.75], [0.25, 0.5, 0.5]), longest=3)
    assert window.to_dict() == {"predicted": [0.5, 0.5, 0.75], "true": [0.25, 0.25, 0.5]}
    assert numbers == {"rank_correlation": pytest.approx(1.0), "window_bias": 0.25, "window_error": 0.25}


def test_a_window_survives_a_trip_through_json() -> None:
    rng = np.random.default_rng(0)
    unbroken = resumed = Window()
    numbers = again = {}
    for step in range(12):
        if step == 5:
            resumed = Window(json.loads(json.dumps(unbroken.to_dict())))
        new = pairs(rng.random(4) / 3, rng.random(4) / 3)
        numbers = again = unbroken.add(new, longest=10)
        if resumed is not unbroken:
            again = resumed.add(new, longest=10)
    assert resumed is not unbroken
    assert again == numbers
