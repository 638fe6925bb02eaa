"""Crops and mixtures. Expected values follow from the definition of the signal-to-noise ratio."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgan_jax.data import mixing


def noise(seed: int, samples: int = 8000, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def decibel(signal: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(signal, dtype=float)) / np.mean(np.square(other, dtype=float)))


@settings(max_examples=30, deadline=None)
@given(snr=st.floats(-20, 40), level=st.floats(1e-3, 10), seed=st.integers(0, 99))
def test_the_mixture_has_the_ratio_and_never_clips(snr: float, level: float, seed: int) -> None:
    """Stationary signals: active power is power, so the plain definition 10 log10(Ps / Pn) must come out."""
    speech = noise(seed, level=0.2)
    clean, noisy = mixing.mix(speech, noise(seed + 100, level=level), snr)
    assert clean.dtype == noisy.dtype == np.float32
    assert decibel(clean, noisy - clean) == pytest.approx(snr, abs=0.05)
    assert max(np.abs(clean).max(), np.abs(noisy).max()) <= 1
    # One factor for both: clean stays a multiple of the speech.
    factor = np.abs(clean).max() / np.abs(speech).max()
    assert factor <= 1 + 1e-6
    np.testing.assert_allclose(clean, factor * speech, atol=1e-6)


def test_pauses_do_not_count() -> None:
    """Speech for a quarter of the crop, noise throughout: the ratio holds where there is speech."""
    speech = noise(0)
    speech[2560:] = 0
    assert mixing.active_power(speech) == pytest.approx(np.mean(np.square(speech[:2560])), rel=1e-6)
    clean, noisy = mixing.mix(speech, noise(1), 5.0)
    assert decibel(clean[:2560], (noisy - clean)[:2560]) == pytest.approx(5.0, abs=0.3)
    # 39 dB below the loudest frame is speech, 41 dB below is a pause.
    for db, share in ((-39, 0.5), (-41, 1.0)):
        tone = np.concatenate([np.ones(3200), np.full(3200, 10 ** (db / 20))])
        assert mixing.active_power(tone) == pytest.approx(share, rel=1e-3)


def test_the_last_frame_may_be_short() -> None:
    assert mixing.active_power(np.full(321, 0.5)) == pytest.approx(0.25)
    assert mixing.active_power(np.zeros(0)) == 0


def test_silence_is_left_alone() -> None:
    speech, hiss = noise(0), noise(1)
    clean, noisy = mixing.mix(speech, np.zeros(8000, np.float32), 0.0)
    np.testing.assert_array_equal(clean, speech)
    np.testing.assert_array_equal(noisy, speech)
    clean, noisy = mixing.mix(np.zeros(8000, np.float32), hiss, 0.0)
    np.testing.assert_array_equal(clean, np.zeros(8000))
    np.testing.assert_array_equal(noisy, hiss)
    # Half a 16-bit step of dither counts as silence: it is not amplified into noise.
    dither = np.full(8000, 0.5 / 32_768, np.float32)
    np.testing.assert_allclose(mixing.mix(speech, dither, 0.0)[1], speech)


def test_short_signals_repeat_from_their_beginning() -> None:
    np.testing.assert_array_equal(mixing.repeat_to(np.arange(3), 8), [0, 1, 2, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(mixing.repeat_to(np.arange(5), 5), np.arange(5))


def test_crops_start_anywhere_that_fits() -> None:
    rng = np.random.default_rng(0)
    assert {mixing.crop_start(rng, 10, 7) for _ in range(200)} == {0, 1, 2, 3}
    assert {mixing.crop_start(rng, frames, 7) for frames in (3, 7) for _ in range(20)} == {0}


def test_voices_of_babble_are_equally_loud() -> None:
    """The sum of k independent signals of power 1 has power k; silent ones add nothing."""
    voices = [noise(k, 16_000, level) for k, level in enumerate((1.0, 0.01, 0.1))]
    assert mixing.active_power(mixing.babble(voices)) == pytest.approx(3, rel=0.1)
    together = mixing.babble([voices[0], np.zeros(16_000, np.float32)])
    np.testing.assert_allclose(together, mixing.babble(voices[:1]))
    # Each keeps its place: the quiet one is as strong in the sum as the loud one.
    whole = mixing.babble(voices)
    shares = [np.dot(whole, voice) / np.linalg.norm(voice) ** 2 * np.sqrt(np.mean(voice**2)) for voice in voices]
    np.testing.assert_allclose(shares, 1.0, atol=0.1)
