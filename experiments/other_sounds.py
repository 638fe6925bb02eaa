"""What the small model does with sounds that it was hardly trained on, or not at all.

    python -m experiments.other_sounds --clean VOICEBANK_TEST/clean --rooms RIR --out results/small/other-sounds.json

Each clean recording is changed in one way, and enhanced with no options. Music is made here, of chords with harmonics,
so that no recording is needed; it says what becomes of steady tones, and nothing about real music with drums.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy import signal

from cmgan_jax import metrics
from cmgan_jax.cli._cli import run
from cmgan_jax.data import audio
from cmgan_jax.data.folders import RECORDINGS, files_below
from cmgan_jax.errors import UserError
from cmgan_jax.inference.enhancer import Enhancer
from cmgan_jax.runtime import cache_programs, prepare_programs
from cmgan_jax.system.outputs import refuse_file, write_json
from cmgan_jax.version import find_version

RATE = 16_000
"""Sample rate in Hz of everything here."""
PHONE_BAND = (300.0, 3_400.0)
"""Pass band in Hz of a telephone."""
CLIPPED_SHARE = 0.25
"""Level, as a share of the peak, at which clipped speech is cut off."""
CHORDS = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (220.0, 277.2, 329.6))
"""Fundamental frequencies in Hz of the chords of the music, a second each."""
ROOMS = ("kitchen-true-stereo", "backslap1", "spatialized3", "spatialized8", "spatialized9")
"""Impulse responses that are of rooms; the corpus holds effects, too."""
HARMONICS = 8
"""Partials of each tone, falling by 1/n."""


@dataclass(frozen=True)
class Arguments:
    """Enhance changed recordings, and score them against what they were before enhancement."""

    clean: Path
    """Folder of clean speech, 16 kHz, one channel."""
    rooms: Path
    """Folder of room impulse responses."""
    out: Path
    """JSON file of the figures."""
    checkpoint: Path | None = None
    """Other weights than those of the package."""


def telephone(speech: np.ndarray) -> np.ndarray:
    """Limit speech to the band of a telephone, float32[S]."""
    sos = signal.butter(6, PHONE_BAND, "bandpass", fs=RATE, output="sos")
    return np.asarray(signal.sosfilt(sos, speech), np.float32)


def clipped(speech: np.ndarray) -> np.ndarray:
    """Clip speech hard, float32[S]."""
    limit = CLIPPED_SHARE * np.max(np.abs(speech))
    return np.clip(speech, -limit, limit)


def in_room(speech: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Place speech in a room, float32[S], at its own level."""
    wet = signal.fftconvolve(speech, response)[: speech.size]
    return (wet * (np.linalg.norm(speech) / np.linalg.norm(wet))).astype(np.float32)


def music() -> np.ndarray:
    """Make chords of harmonic tones, float32[S]."""
    time = np.arange(RATE) / RATE
    envelope = np.minimum(1, 20 * time) * np.exp(-time)
    chords = [
        sum(np.sin(2 * np.pi * tone * n * time) / n for tone in chord for n in range(1, HARMONICS + 1))
        for chord in CHORDS
    ]
    samples = np.concatenate([chord * envelope for chord in chords])
    return (0.3 * samples / np.max(np.abs(samples))).astype(np.float32)


def level(enhanced: np.ndarray, given: np.ndarray) -> float:
    """Energy of the output over that of the input, in dB."""
    return 10 * float(np.log10(np.sum(enhanced**2, dtype=np.float64) / np.sum(given**2, dtype=np.float64)))


def measure(enhancer: Enhancer, files: list[Path], rooms: list[Path]) -> dict[str, Any]:
    """Figures by kind of sound; means over the files.

    `pesq` compares the output with the *changed* recording, 4.644 being the highest value there is: how far a
    recording without noise is left as it was. `level` is the output's energy over the input's, in dB.
    """
    responses = [audio.read(path) for path in rooms]
    kinds: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "clean": lambda speech, _: speech,
        "telephone": lambda speech, _: telephone(speech),
        "clipped": lambda speech, _: clipped(speech),
        "reverberant": lambda speech, i: in_room(speech, responses[i % len(responses)]),
    }
    found: dict[str, Any] = {}
    for kind, change in kinds.items():
        rows = []
        for i, path in enumerate(files):
            given = change(audio.read(path), i)
            enhanced = enhancer.enhance(given, RATE)
            rows.append((metrics.pesq(given, enhanced, RATE), level(enhanced, given)))
        pesq, gain = map(float, np.mean(rows, axis=0))
        found[kind] = {"files": len(rows), "pesq": pesq, "level": gain}
    given = music()
    enhanced = enhancer.enhance(given, RATE)
    found["music"] = {"files": 1, "level": level(enhanced, given)}
    silence = np.zeros(RATE, np.float32)
    found["silence"] = {"files": 1, "loudest": float(np.max(np.abs(enhancer.enhance(silence, RATE))))}
    return found


def main() -> None:
    """Measure, write, show."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.other_sounds")
    refuse_file("--out", arguments.out)
    prepare_programs()
    cache_programs()
    files, rooms = (sorted(files_below(folder, RECORDINGS)) for folder in (arguments.clean, arguments.rooms))
    rooms = [path for path in rooms if path.stem in ROOMS]
    if not rooms:
        raise UserError(f"--rooms {arguments.rooms}: none of {', '.join(ROOMS)} is there")
    enhancers = {
        strength: Enhancer.from_checkpoint(arguments.checkpoint, strength=strength) for strength in ("auto", 1.0)
    }
    found = {str(strength): measure(enhancer, files, rooms) for strength, enhancer in enhancers.items()}
    write_json(arguments.out, {"version": find_version(), "strengths": found})
    for strength, kinds in found.items():
        for kind, figures in kinds.items():
            print(strength, kind, {name: round(value, 3) for name, value in figures.items()})


if __name__ == "__main__":
    run(main)
