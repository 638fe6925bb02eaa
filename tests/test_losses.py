"""Loss terms against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmgan_jax.training.losses import adversarial_loss, magnitude_loss, ri_loss, time_loss, weighted_mse


def test_terms_by_hand() -> None:
    """Errors of the spectrum 1 + 2i and -3: reals (1 + 9) / 2, imaginaries 4 / 2; of a phase alone, no magnitude."""
    estimate, clean = jnp.array([[[2 + 2j, -3]]]), jnp.array([[[1 + 0j, 0]]])
    assert float(ri_loss(estimate, clean)) == pytest.approx(7)
    assert float(magnitude_loss(jnp.array([[[3.0, 1]]]), jnp.array([[[1.0, 1]]]))) == pytest.approx(2)
    assert float(time_loss(jnp.array([[1.0, -1, 0, 0]]), jnp.array([[0.0, 1, 0, 0]]))) == pytest.approx(0.75)
    assert float(adversarial_loss(jnp.array([1, 0.5, 0.5]))) == pytest.approx(0.5 / 3)


def test_shares_of_the_weighted_error_sum_to_the_global_mean() -> None:
    """Parts of one, two and five items: by hand, sum(w · d²) / sum(w) over all eight."""
    prediction, target = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 8)), jnp.float32)
    weight = jnp.array([1, 0, 0, 1, 0.5, 1, 0, 2])
    parts = [slice(0, 1), slice(1, 3), slice(3, 8)]
    shares = [float(weighted_mse(prediction[p], target[p], weight[p], weight.sum())) for p in parts]
    expected = np.sum(np.asarray(weight) * (np.asarray(prediction, np.float64) - np.asarray(target)) ** 2) / 5.5
    assert sum(shares) == pytest.approx(expected, rel=1e-6)
    # The device whose items all failed gives nothing.
    assert shares[1] == 0


def test_no_weight_at_all_gives_0_and_a_gradient_of_0() -> None:
    value, gradient = jax.value_and_grad(weighted_mse)(jnp.ones(3), jnp.zeros(3), jnp.zeros(3), jnp.float32(0))
    assert value == 0
    np.testing.assert_array_equal(gradient, [0, 0, 0])
