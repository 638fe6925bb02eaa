import numpy as np
import pytest
from pesq import pesq

from cmgan_jax.data.prepare.synthetic_noise import KINDS, coloured, make_noise, unit_rms
from cmgan_jax.data.prepare.synthetic_speech import make_speakers, synthesise

SPEAKERS = make_speakers(4)
VOICES = [synthesise(2.0, speaker, index) for index, speaker in enumerate(SPEAKERS)]


def test_same_seed_gives_the_same_speech_and_another_does_not():
    again = synthesise(2.0, SPEAKERS[0], 0)
    np.testing.assert_array_equal(again, VOICES[0])
    assert not np.array_equal(synthesise(2.0, SPEAKERS[0], 1), VOICES[0])
    assert not np.array_equal(synthesise(2.0, SPEAKERS[1], 0), VOICES[0])


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.00003])
def test_speech_has_the_length_and_level_that_are_promised(seconds):
    # Expected values: the docstring of `synthesise`.
    wave = synthesise(seconds, SPEAKERS[2], 7)
    assert wave.shape == (round(seconds * 16_000),)
    assert wave.dtype == np.float32
    assert 0.045 < np.sqrt(np.mean(wave**2)) < 0.125
    assert np.abs(wave).max() <= 0.99


def test_speech_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match=r"0\.1 s"):
        synthesise(0.05, SPEAKERS[0], 0)


@pytest.mark.parametrize("index", range(4))
def test_pitch_is_the_speakers(index):
    # Expected: the speaker's pitch, with a contour of up to a quarter around it, as the lag of the highest
    # autocorrelation of loud frames.
    frames = VOICES[index][:31_680].reshape(-1, 960)
    loud = frames[np.std(frames, axis=1) > np.median(np.std(frames, axis=1))]
    low, high = 16_000 // 320, 16_000 // 60
    lags = []
    for frame in loud:
        correlation = np.correlate(frame, frame, "full")[959:] / (1 - np.arange(960) / 1000)
        lags.append(low + np.argmax(correlation[low:high]))
    assert 16_000 / np.median(lags) == pytest.approx(SPEAKERS[index].pitch, rel=0.25)


def test_speech_has_pauses_between_words():
    # Expected: with no rest between words the longest silence would be a stop's closure, 30 ms; words rest for
    # up to 350 ms. Silence: 40 dB under the loud 10 ms frames.
    levels = np.std(np.concatenate(VOICES).reshape(-1, 160), axis=1)
    silent = levels < 0.01 * np.percentile(levels, 95)
    longest = max(len(run) for run in "".join("x" if quiet else " " for quiet in silent).split())
    assert 10 <= longest <= 60


def test_speech_has_fricatives():
    # Expected of speech (recorded prompts: 8 % of frames in English, 4 % in Italian): some 20 ms frames with more
    # sound above 3 kHz than below, which no vowel has.
    power = np.abs(np.fft.rfft(np.concatenate(VOICES).reshape(-1, 320))) ** 2
    heard = power.sum(axis=1) > 1e-4 * np.percentile(power.sum(axis=1), 95)
    hissing = power[:, 60:].sum(axis=1) > power[:, :60].sum(axis=1)
    assert 0.01 < hissing[heard].mean() < 0.5


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_pesq_finds_utterances_and_rises_with_the_ratio(seconds):
    # Expected: PESQ orders one noise by its level (ITU-T P.862.2); an error would mean that it found no utterance.
    for index, kind in enumerate(("brown", "modulated", "babble")):
        clean = synthesise(seconds, SPEAKERS[index], 100 + index)
        noise = make_noise(kind, seconds, index, VOICES) * np.sqrt(np.mean(clean**2))
        scores = [pesq(16_000, clean, clean + noise * 10 ** (-snr / 20), "wb") for snr in (0, 7, 14, 21)]
        assert scores == sorted(scores)
        assert scores[-1] > scores[0] + 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_seeded_of_unit_level_and_as_long_as_asked_for(kind):
    wave = make_noise(kind, 1.5, 3, VOICES)
    assert wave.shape == (24_000,)
    assert wave.dtype == np.float32
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(1.0, abs=1e-4)
    assert abs(wave.mean()) < 1e-4
    np.testing.assert_array_equal(make_noise(kind, 1.5, 3, VOICES), wave)
    assert not np.array_equal(make_noise(kind, 1.5, 4, VOICES), wave)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_power_falls_with_the_exponent(exponent):
    # Expected: power density 1 / f ** exponent, which is 3.01 dB an octave for each unit of the exponent.
    power = np.abs(np.fft.rfft(coloured(160_000, exponent, np.random.default_rng(0)))) ** 2
    octaves = [power[int(f * 10) : int(f * 20)].mean() for f in (125, 250, 500, 1000, 2000, 4000)]
    slope = np.polyfit(np.arange(6), 10 * np.log10(octaves), 1)[0]
    assert slope == pytest.approx(-3.01 * exponent, abs=0.2)


def test_hum_stands_on_multiples_of_the_mains():
    # Expected: more than nine tenths of the power within 2 Hz of a multiple of 50 or of 60 Hz (floor: 25 dB below).
    wave = make_noise("hum", 4.0, 1)
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    frequencies = np.fft.rfftfreq(len(wave), 1 / 16_000)
    shares = [power[np.abs((frequencies + m / 2) % m - m / 2) < 2].sum() / power.sum() for m in (50, 60)]
    assert max(shares) > 0.9


def test_modulated_noise_swells():
    # Expected: a depth of at least 6 dB either way has a standard deviation of at least 6 / sqrt(2) = 4.2 dB.
    wave = make_noise("modulated", 8.0, 0)
    levels = 20 * np.log10(np.std(wave.reshape(-1, 800), axis=1))
    assert np.std(levels) > 4.0


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="none was given"):
        make_noise("babble", 1.0, 0)
    with pytest.raises(ValueError, match="unknown kind"):
        make_noise("violet", 1.0, 0)  # pyright: ignore[reportArgumentType]


def test_silence_stays_silence():
    np.testing.assert_array_equal(unit_rms(np.zeros(5)), np.zeros(5))
