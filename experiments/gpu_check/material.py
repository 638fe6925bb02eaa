"""A corpus of synthesised speech and noise for a rehearsal, laid out as the trainings look for it."""

from pathlib import Path

from cmgan_jax.data import audio
from cmgan_jax.data.prepare.synthetic_noise import make_noise
from cmgan_jax.data.prepare.synthetic_speech import make_speakers, synthesise

SPEAKERS, TAKES, NOISES = 4, 3, 4
"""Speakers, recordings of each, and recordings of noise."""
SECONDS, RATE = 2.0, 16_000
"""Length of a recording, and its sample rate in Hz."""


def make_corpora(folder: Path) -> Path:
    """Write the corpus, unless it is there.

    Returns:
        The folder, with speech/ and noise/ below it.
    """
    if (folder / "noise").is_dir():
        return folder
    for i, speaker in enumerate(make_speakers(SPEAKERS)):
        for take in range(TAKES):
            wave = 0.1 * synthesise(SECONDS, speaker, seed=10 * i + take)
            audio.write(folder / "speech" / "en" / f"s{i}" / f"{take}.wav", wave, RATE)
    for i in range(NOISES):
        audio.write(folder / "noise" / f"n{i}.wav", 0.1 * make_noise("pink", SECONDS, seed=i), RATE)
    return folder
