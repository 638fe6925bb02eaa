"""What mixtures suffer beside noise. Expected values follow from the definitions in the docstrings."""

from dataclasses import replace

import numpy as np
import pytest

from cmgan_jax.config import AugmentationConfig
from cmgan_jax.data import augmentation

RATE = 16_000
SAMPLES = 2 * RATE


def noise(seed: int, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(SAMPLES)).astype(np.float32)


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    clean = noise(seed)
    return clean, clean + noise(seed + 1, 0.05)


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def power_above(audio: np.ndarray, hertz: float) -> float:
    spectrum = np.square(np.abs(np.fft.rfft(audio)))
    return float(spectrum[np.fft.rfftfreq(len(audio), 1 / RATE) > hertz].sum() / spectrum.sum())


@pytest.mark.parametrize("seed", range(5))
def test_reflections_come_after_the_direct_sound_and_within_50_ms(seed: int) -> None:
    """A click: the click itself, then at least 3 quieter copies 3 to 50 ms (48 to 800 samples) later."""
    click = np.zeros(SAMPLES, np.float32)
    click[100] = 1.0
    found = augmentation.reflect(click, draws(seed), RATE)
    copies = np.flatnonzero(np.abs(found) > 1e-5)
    assert copies[0] == 100
    assert found[100] == pytest.approx(1.0, abs=1e-6)
    assert 3 <= len(copies) - 1 <= 12
    assert copies[1:].min() >= 148
    assert copies.max() <= 900
    assert np.abs(found[101:]).max() <= 2 * 0.6  # Two may fall on one sample.


@pytest.mark.parametrize("seed", range(5))
def test_both_sides_lose_the_same_band_and_keep_their_place(seed: int) -> None:
    """White noise has half of its power above 4 kHz: above 7.5 kHz nothing is left, below 3 kHz nothing is changed."""
    before = pair()
    clean, noisy = augmentation.limit_band(before, draws(seed), RATE)
    assert power_above(clean, 7800) < 1e-3
    assert power_above(noisy, 7800) < 1e-3
    low = np.fft.rfftfreq(SAMPLES, 1 / RATE) < 2500
    for side, original in zip((clean, noisy), before, strict=True):
        found, expected = np.fft.rfft(side)[low], np.fft.rfft(original)[low]
        assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)  # Phase included: no delay.


def test_soft_clipping_lowers_peaks_and_leaves_quiet_parts() -> None:
    """tanh: its slope is 1 at 0, and at a drive of at least 1 the peak falls below tanh(1) = 0.76 of what it was."""
    loud = noise(0)
    loud[: SAMPLES // 2] *= 1e-3
    found = augmentation.clip_softly(loud, draws())
    assert np.abs(found).max() <= 0.77 * np.abs(loud).max()
    np.testing.assert_allclose(found[: SAMPLES // 2], loud[: SAMPLES // 2], rtol=1e-3)
    silence = np.zeros(SAMPLES, np.float32)
    np.testing.assert_array_equal(augmentation.clip_softly(silence, draws()), silence)


@pytest.mark.parametrize("seed", range(5))
def test_levels_lie_between_the_limits_in_steps_of_16_bits(seed: int) -> None:
    before = pair()
    clean, noisy = augmentation.set_level(before, draws(seed), -40.0, -20.0)
    level = 10 * np.log10(np.mean(np.square(noisy, dtype=float)))
    assert -40.1 < level < -19.9
    np.testing.assert_array_equal(noisy * 2**15, np.round(noisy * 2**15))
    # The same factor on both sides, so the ratio of speech and noise stays.
    factor = np.linalg.norm(clean) / np.linalg.norm(before[0])
    np.testing.assert_allclose(noisy, factor * before[1], atol=0.51 * 2**-15)


def test_no_level_goes_beyond_full_scale() -> None:
    """A click has a peak far above its root mean square: at -10 dB it would exceed 1."""
    click = np.zeros(SAMPLES, np.float32)
    click[100] = 0.5
    clean, noisy = augmentation.set_level((click, click), draws(), -10.0, -10.0)
    assert max(np.abs(clean).max(), np.abs(noisy).max()) == 1.0


def test_nothing_is_drawn_and_nothing_changes_unless_it_is_asked_for() -> None:
    before, rng = pair(), draws()
    found = augmentation.spoil(before, rng, AugmentationConfig(), RATE)
    assert found is before
    assert augmentation.room(before[0], rng, AugmentationConfig(), RATE) is before[0]
    assert not augmentation.without_noise(rng, AugmentationConfig())
    assert rng.random() == draws().random()


@pytest.mark.parametrize("field", ["narrow_band_share", "clipping_share", "level_share"])
def test_shares_are_probabilities(field: str) -> None:
    """A share of 1 always changes the noisy side; of 200 draws at 0.5, 60 to 140 do (six standard deviations)."""
    clean, noisy = (side[:800] for side in pair())
    before = clean, noisy
    always = replace(AugmentationConfig(), **{field: 1.0})
    assert not np.array_equal(augmentation.spoil(before, draws(), always, RATE)[1], before[1])
    half, rng = replace(AugmentationConfig(), **{field: 0.5}), draws()
    changed = sum(augmentation.spoil(before, rng, half, RATE) is not before for _ in range(200))
    assert 60 <= changed <= 140
