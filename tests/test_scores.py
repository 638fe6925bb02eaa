"""Whole files scored: what is measured, what is missing and why, and what the summary makes of both."""

import math

import numpy as np
import pytest
import soundfile

from cmgan_jax.evaluation import scores
from cmgan_jax.metrics import measures
from cmgan_jax.metrics.scoring_pool import ScorePool

RATE = scores.RATE
COMPOSITE = ("pesq", "csig", "cbak", "covl")


@pytest.fixture(scope="module")
def pool():
    with ScorePool(2, time_limit=30) as pool:
        yield pool


def speech(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """Modulated coloured noise: PESQ and STOI take it for speech."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    noise = np.convolve(rng.normal(size=t.size), np.exp(-np.arange(40) / 8), mode="same")
    return (0.05 * noise * (1.1 + np.sin(2 * np.pi * 3 * t))).astype(np.float32)


def noisy(clean: np.ndarray, seed: int = 1) -> np.ndarray:
    return (clean + 0.02 * np.random.default_rng(seed).normal(size=clean.size)).astype(np.float32)


def test_a_pair_gets_every_measure(pool):
    # Expected: the measures themselves, one by one, PESQ in this process.
    clean, estimate = speech(), noisy(speech())
    found = scores.score_pair(clean, estimate, pool, name="a", narrow=True)
    assert (found.name, found.reasons, found.notes) == ("a", {}, ())
    assert tuple(found.values) == (*scores.METRICS, scores.NARROW)
    wide, of = measures.pesq(clean, estimate), measures.parts(clean, estimate)
    opinions = measures.composite(clean, estimate, wide)
    expected = {
        "pesq": wide,
        "pesq_nb": measures.pesq(clean, estimate, mode="nb"),
        "csig": opinions.csig,
        "cbak": opinions.cbak,
        "covl": opinions.covl,
        "ssnr": of.ssnr,
        "llr": of.llr,
        "wss": of.wss,
        "stoi": measures.stoi(clean, estimate),
        "estoi": measures.estoi(clean, estimate),
        "si_sdr": float(measures.si_sdr(clean, estimate)),
    }
    assert found.values == pytest.approx(expected, abs=1e-6)


def test_published_scale_reaches_the_composite_measures(pool):
    # From the definition of that scale: WSS alone falls, and the opinions that are made of it rise.
    clean, estimate = 0.01 * speech(), 0.01 * noisy(speech())
    right, published = (scores.score_pair(clean, estimate, pool, published_scale=flag).values for flag in (False, True))
    assert published["wss"] < 0.5 * right["wss"]
    assert published["cbak"] > right["cbak"]
    assert published["llr"] == pytest.approx(right["llr"])


def test_a_signal_that_kills_pesq_costs_only_its_pesq(pool):
    # 60 short bursts are more than the 50 utterances that fit into an array of the pesq package.
    t = np.arange(48 * RATE) / RATE
    clean = (np.sin(2 * np.pi * 440 * t) * (t % 0.8 < 0.3)).astype(np.float32)
    found = scores.score_pair(clean, noisy(clean), pool)
    assert tuple(found.reasons) == COMPOSITE
    assert all("more than 50 utterances" in reason for reason in found.reasons.values())
    assert set(found.values) == set(scores.METRICS) - set(COMPOSITE)
    assert "pesq" in scores.score_pair(speech(), noisy(speech()), pool).values


NOTHING = set(scores.METRICS)


@pytest.mark.parametrize(
    ("clean", "estimate", "missing", "reason"),
    [
        # What cannot be compared at all.
        (0 * speech(), noisy(speech()), NOTHING, "the clean signal is silent"),
        (1e-5 * speech(), noisy(speech()), NOTHING, "the clean signal is silent"),
        (speech(), noisy(speech())[:-481], NOTHING, "lengths differ: 24000 and 23519"),
        (speech(), np.full(24_000, np.nan, np.float32), NOTHING, "the estimate signal holds NaN"),
        (speech()[:0], speech()[:0], NOTHING, "the clean signal is empty"),
        (speech(), np.stack([speech()] * 2), NOTHING, "score one channel at a time"),
        # What can be compared in part.
        (speech(), 0 * speech(), {*COMPOSITE, "si_sdr"}, "silent estimate"),
        (speech(), speech(), {"si_sdr"}, "the estimate is the clean signal"),
        (speech(0.3), noisy(speech(0.3)), {"stoi", "estoi"}, "frames of active speech"),
        (speech(0.2), noisy(speech(0.2)), {*COMPOSITE, "stoi", "estoi"}, "needs at least 1/4 s"),
        (speech(0.03), noisy(speech(0.03)), NOTHING - {"si_sdr"}, "480 samples, an analysis takes 600"),
    ],
)
def test_what_cannot_be_scored_is_absent_with_its_reason(pool, clean, estimate, missing, reason):
    # The rules at the head of the module under test.
    found = scores.score_pair(clean, estimate, pool)
    assert set(found.reasons) == missing
    assert set(found.values) == NOTHING - missing
    assert any(reason in text for text in found.reasons.values())
    assert all(math.isfinite(value) for value in found.values.values())


@pytest.mark.parametrize(
    ("clean_gain", "gain", "noted"),
    [
        (1.0, 1.0, ()),
        (1.0, 90.0, ()),  # 39.1 dB louder
        (1.0, 0.011, ()),  # 39.2 dB quieter
        (0.1, 11.0, ("the estimate is more than 40 dB louder",)),
        (1.0, 0.009, ("the estimate is more than 40 dB quieter",)),
        (1.0, 32_768.0, ("the estimate is more than 40 dB louder", "the estimate's samples reach beyond ±10")),
        (
            32_768.0,
            32_768.0,
            ("the clean signal's samples reach beyond ±10", "the estimate's samples reach beyond ±10"),
        ),
    ],
)
def test_levels_that_cannot_be_those_of_a_pair_are_noted(pool, clean_gain, gain, noted):
    """Floats stored at 16-bit scale are 90.3 dB louder than floats in [-1, 1]; 40 dB is a factor of 100."""
    clean = 0.1 * speech()
    found = scores.score_pair(clean_gain * clean, gain * clean, pool)
    assert len(found.notes) == len(noted)
    for note, words in zip(found.notes, noted, strict=True):
        assert words in note


def test_a_few_samples_more_or_less_are_cut_and_noted(pool):
    clean = speech()
    found = scores.score_pair(clean, noisy(clean)[:-480], pool)
    assert found.notes == ("cut to the shorter of 24000 and 23520 samples",)
    assert found.values == scores.score_pair(clean[:-480], noisy(clean)[:-480], pool).values


def test_files_are_scored_in_order_and_the_unreadable_named(pool, tmp_path):
    # The reasons are libsndfile's and the file system's; the order is that of the pairs.
    clean = speech()
    soundfile.write(tmp_path / "clean.wav", clean, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "good.wav", noisy(clean), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.stack([clean] * 2, axis=1), RATE)
    soundfile.write(tmp_path / "48k.wav", np.repeat(noisy(clean), 3), 3 * RATE)
    (tmp_path / "text.wav").write_text("not audio")
    names = ["good", "stereo", "text", "absent", "48k"]
    taken = []

    def pairs():
        for name in names:
            taken.append(name)
            yield scores.FilePair(name, tmp_path / "clean.wav", tmp_path / f"{name}.wav")
        yield scores.FilePair("arrays", clean, noisy(clean))

    results = scores.score_files(pairs(), pool)
    good = next(results)
    assert len(taken) == 4  # made as they are needed: two for each of the two processes
    files = {f.name: f for f in (good, *results)}
    assert list(files) == [*names, "arrays"]
    assert good.values == pytest.approx(files["arrays"].values)
    for name, reason in (("stereo", "2 channels"), ("text", "unreadable"), ("absent", "No such file")):
        assert set(files[name].reasons) == NOTHING
        assert all(f"{name}.wav" in text and reason in text for text in files[name].reasons.values())
    assert files["48k"].notes == ("estimate resampled from 48000 Hz",)
    assert not files["48k"].reasons
