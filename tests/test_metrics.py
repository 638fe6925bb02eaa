"""Measures against published numbers, closed forms and their own definitions written as loops."""

import numpy as np
import pytest

from cmgan_jax.evaluation import metrics


def test_si_sdr_of_orthogonal_noise_is_the_power_ratio():
    # sin and cos over whole periods are orthogonal: the ratio of powers, 0.5 : 0.005, is 20 dB.
    t = np.arange(16000) / 16000
    clean, noise = np.sin(2 * np.pi * 50 * t), 0.1 * np.cos(2 * np.pi * 50 * t)
    assert metrics.si_sdr(clean, clean + noise) == pytest.approx(20.0, abs=1e-9)


def test_si_sdr_ignores_scale_and_batches_over_leading_axes():
    # From the definition: a projection does not depend on the length of what it projects on.
    rng = np.random.default_rng(0)
    clean, noise = rng.normal(size=(2, 3, 4000))
    single = [float(metrics.si_sdr(c, c + n)) for c, n in zip(clean, noise, strict=True)]
    np.testing.assert_allclose(metrics.si_sdr(5 * clean, -0.3 * (clean + noise)), single, atol=1e-9)


def test_si_sdr_where_the_ratio_has_no_value():
    clean = np.sin(np.arange(100.0))
    assert metrics.si_sdr(clean, clean) == np.inf
    assert np.isnan(metrics.si_sdr(clean, 0 * clean))
    assert np.isnan(metrics.si_sdr(0 * clean, clean))
    with pytest.raises(ValueError, match="must be equal"):
        metrics.si_sdr(clean, clean[:-1])
