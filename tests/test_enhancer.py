"""Recordings of any rate, channel count and length through the enhancer, whole and as streams."""

from pathlib import Path

import numpy as np
import pytest
from test_enhance import CONFIG, SHORT, noise, random_variables

from cmgan_jax.config import SpectralConfig
from cmgan_jax.inference.enhance import enhance
from cmgan_jax.inference.enhancer import Enhancer
from cmgan_jax.inference.pieces import Network
from cmgan_jax.inference.processor import Processor
from cmgan_jax.inference.weights import Weights
from cmgan_jax.inference.windows import Layout

ENHANCER = Enhancer(Weights(random_variables(), CONFIG, Path("x"), 0), SHORT)
LAYOUT = Layout(length=8_000, edge=500, fade=500, hop=100, batch=1, whole=16_000)
# A network that changes nothing: what remains is resampling, windows and bookkeeping.
THROUGH = Processor(Network(SpectralConfig(), LAYOUT, ((1, 16_000),), lambda padded, frames, part: padded[:, 200:-200]))
RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)


def tone(rate: int, seconds: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_any_rate_keeps_place_and_level(rate: int) -> None:
    # A tone that 16 kHz can hold comes back as it was; a shift of one sample at 8 kHz would change it by 0.1.
    audio = tone(rate, 2.3)
    found = THROUGH.enhance(audio, rate)
    assert found.shape == audio.shape
    inner = slice(rate // 10, -rate // 10)
    np.testing.assert_allclose(found[inner], audio[inner], atol=1e-3)


def test_what_16_khz_cannot_hold_is_left_out() -> None:
    low, high = tone(48_000, 1.0), 0.3 * np.sin(2 * np.pi * 12_000 * np.arange(48_000) / 48_000).astype(np.float32)
    inner = slice(4_800, -4_800)
    np.testing.assert_allclose(THROUGH.enhance(low + high, 48_000)[inner], low[inner], atol=1e-3)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("samples", [1, 2, 3, 100])
def test_the_shortest_recordings(rate: int, samples: int) -> None:
    found = THROUGH.enhance(noise(samples)[:, None].repeat(2, 1), rate)
    assert found.shape == (samples, 2)
    assert np.isfinite(found).all()


def test_channels_are_enhanced_by_themselves_or_as_their_mean() -> None:
    audio = np.stack([noise(3_000, 1), np.zeros(3_000, np.float32), noise(3_000, 2)], axis=1)
    found = ENHANCER.enhance(audio, 16_000)
    for i in (0, 2):
        np.testing.assert_array_equal(found[:, i], enhance(random_variables(), audio[:, i], CONFIG, SHORT))
    np.testing.assert_array_equal(found[:, 1], 0)
    mono = ENHANCER.enhance(audio, 16_000, mono=True)
    assert mono.shape == (3_000, 1)
    np.testing.assert_array_equal(mono[:, 0], ENHANCER.enhance(audio.mean(axis=1), 16_000))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("whole", [True, False])
def test_a_stream_keeps_its_latency_exactly(rate: int, whole: bool) -> None:
    stream = THROUGH.stream(rate, whole=whole)
    assert stream.latency >= (1.0 if whole else 0.5) * rate
    assert stream.latency <= ((1.0 if whole else 0.5) + 0.51) * rate
    draw, audio = np.random.default_rng(0), tone(rate, 3.0)
    done, start = [], 0
    while start < audio.size:
        size = int(draw.integers(0, rate // 20))
        done.append(stream.push(audio[start : start + size]))
        start = min(start + size, audio.size)
        assert sum(map(len, done)) == max(0, start - stream.latency)
    done.append(stream.flush())
    # Longer than what would be enhanced whole: the same windows, so the same samples.
    np.testing.assert_array_equal(np.concatenate(done), THROUGH.enhance(audio, rate))


def test_a_stream_of_the_model_gives_the_windowed_result() -> None:
    audio = noise(30_000)
    stream = ENHANCER.stream(16_000)
    assert stream.latency == 8_000
    blocks = [stream.push(audio[start : start + 777]) for start in range(0, audio.size, 777)]
    found = np.concatenate([*blocks, stream.flush()])
    np.testing.assert_allclose(found, ENHANCER.enhance(audio, 16_000), atol=1e-6)


def test_streams_of_two_axes_and_none() -> None:
    stream = THROUGH.stream(16_000, channels=2)
    assert stream.push(np.zeros((100, 2), np.float32)).shape == (0, 2)
    assert stream.flush().shape == (100, 2)
    assert THROUGH.stream(44_100).flush().size == 0


def test_what_cannot_be_enhanced_is_refused() -> None:
    for audio, words in (
        (np.zeros(0, np.float32), "at least 1"),
        (np.zeros((2, 2, 2), np.float32), "expected"),
        (np.array([0.0, np.nan]), "NaN or infinity"),
        (np.array([0.0, np.inf]), "NaN or infinity"),
        (np.zeros(5, np.int16), "int16"),
    ):
        with pytest.raises(ValueError, match=words):
            THROUGH.enhance(audio, 16_000)
    with pytest.raises(ValueError, match="0 Hz"):
        THROUGH.enhance(np.zeros(5, np.float32), 0)
    with pytest.raises(ValueError, match=r"expected \[S, 2\]"):
        THROUGH.stream(16_000, 2).push(np.zeros(5, np.float32))


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("seconds", [0.6, 2.5])  # whole, and in windows
def test_an_offset_does_not_change_the_level_of_the_speech(rate: int, seconds: float) -> None:
    """With an offset of 0.3 the result is that without it: a level that counted the offset would be 16 dB off."""
    speech = 0.05 * np.random.default_rng(0).normal(size=(round(rate * seconds), 2)).astype(np.float32)
    speech -= speech.mean(axis=0)
    shifted = speech + np.array([0.3, 0.0], np.float32)
    expected, found = ENHANCER.enhance(speech, rate), ENHANCER.enhance(shifted, rate)
    inner = slice(rate // 10, -rate // 10)  # The resampler takes the offset's beginning for a step.
    np.testing.assert_array_equal(found[:, 1], expected[:, 1])
    error = np.sqrt(np.mean((found - expected)[inner, 0] ** 2)) / np.sqrt(np.mean(expected[inner, 0] ** 2))
    assert error < 0.05
    np.testing.assert_array_equal(THROUGH.enhance(np.full(8_000, 0.3, np.float32), 16_000), 0)


def test_what_speech_has_of_an_offset_is_left_to_the_network() -> None:
    """The published numbers stand: up to a quarter of the level nothing is changed."""
    audio = noise(8_000)
    audio += np.float32(0.2 * audio.std() - audio.mean())
    np.testing.assert_array_equal(ENHANCER.enhance(audio, 16_000), enhance(random_variables(), audio, CONFIG, SHORT))


@pytest.mark.parametrize("shape", [(2, 16_000), (1, 3), (6, 800)])
@pytest.mark.parametrize("mono", [True, False])
def test_channels_before_samples_are_refused(shape: tuple[int, int], mono: bool) -> None:
    audio = np.full(shape, 0.1, np.float32)
    with pytest.raises(ValueError, match=rf"{shape[1]} channels of {shape[0]} sample.*transpose it"):
        THROUGH.enhance(audio, 16_000, mono=mono)
    assert THROUGH.enhance(audio.T, 16_000).shape == audio.T.shape
    with pytest.raises(ValueError, match="transpose it"):
        THROUGH.stream(16_000, shape[0]).push(audio)


@pytest.mark.parametrize("rate", [0, 16, 44.1, 999, 768_001, -16_000, float("nan")])
def test_rates_that_are_no_hertz_are_refused(rate: float) -> None:
    for attempt in (lambda: THROUGH.enhance(noise(100), rate), lambda: THROUGH.stream(rate)):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="in Hz"):
            attempt()
    assert THROUGH.enhance(noise(100), 1_000).shape == (100,)
