"""Input data for benchmarks: synthesised speech with noise, as crops and as a small corpus on disk."""

from pathlib import Path

import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.data import audio
from cmgan_jax.data.corpus import Corpus, CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.pipeline import Crops
from cmgan_jax.data.prepare.synthetic_noise import make_noise
from cmgan_jax.data.prepare.synthetic_speech import make_speakers, synthesise

SPEAKERS = 4
TAKES = 2
"""Files per speaker."""
SPEECH_LEVEL, NOISE_LEVEL = 0.1, 0.02
"""Scale factors for signals of unit level: speech at -20 dB of full scale, 14 dB above the noise."""


def make_crops(count: int, seconds: float, sample_rate: int) -> Crops:
    """Make pairs that PESQ can score, float32 [count, S]; equal arguments give equal pairs."""
    speakers = make_speakers(SPEAKERS)
    samples = round(seconds * sample_rate)
    clean = np.stack([synthesise(seconds, speakers[i % SPEAKERS], seed=i)[:samples] for i in range(count)])
    noise = np.stack([make_noise("pink", seconds, seed=i)[:samples] for i in range(count)])
    return {"clean": SPEECH_LEVEL * clean, "noisy": SPEECH_LEVEL * clean + NOISE_LEVEL * noise}


def make_corpus(folder: Path, config: Config) -> Corpus:
    """Write a few pairs, 1.5 times as long as a crop, in VoiceBank+DEMAND's layout, and open them as training does.

    Args:
        folder: a new or empty folder.
        config: gives the crop length and sample rate.
    """
    rate = config.spectral.sample_rate
    crops = make_crops(SPEAKERS * TAKES, 1.5 * config.data.crop_seconds, rate)
    for kind, waves in (("clean", crops["clean"]), ("noisy", crops["noisy"])):
        for i, wave in enumerate(waves):
            audio.write(folder / "train" / kind / f"p{i % SPEAKERS + 1}_{i:03d}.wav", wave, rate)
    return open_corpus(CorpusSource(data=folder), config)
