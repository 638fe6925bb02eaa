"""Small recordings on disk that every measure can score."""

from pathlib import Path

import numpy as np
import soundfile

from cmgan_jax.data import audio
from cmgan_jax.data.prepare.synthetic_noise import make_noise
from cmgan_jax.data.prepare.synthetic_speech import make_speakers, synthesise

RATE = 16_000


def speech(seconds: float = 1.2, seed: int = 0) -> np.ndarray:
    """Modulated coloured noise: PESQ and STOI take it for speech."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    noise = np.convolve(rng.normal(size=t.size), np.exp(-np.arange(40) / 8), mode="same")
    return (0.05 * noise * (1.1 + np.sin(2 * np.pi * 3 * t))).astype(np.float32)


def store(path: Path, signal: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, RATE, subtype="FLOAT" if path.suffix == ".wav" else "PCM_16")
    return path


def make_folders(root: Path) -> Path:
    """Two recordings, each clean, noisy (SNR about 10 dB) and, halfway between, enhanced."""
    for i, name in enumerate(("p001_a", "p002_b")):
        clean = speech(seed=i)
        noise = 0.02 * np.random.default_rng(9 + i).normal(size=clean.size).astype(np.float32)
        for folder, share in (("clean", 0.0), ("noisy", 1.0), ("enhanced", 0.5)):
            store(root / folder / f"{name}.wav", clean + share * noise)
    return root


def make_pairs(root: Path, speakers: int) -> Path:
    """Two pairs of each of so many synthesised speakers, in the layout of VoiceBank+DEMAND."""
    for i, speaker in enumerate(make_speakers(speakers)):
        for take in range(2):
            clean = 0.1 * synthesise(1.0, speaker, seed=10 * i + take)
            noisy = clean + 0.02 * make_noise("pink", 1.0, seed=10 * i + take)[: clean.size]
            for kind, wave in (("clean", clean), ("noisy", noisy)):
                audio.write(root / "train" / kind / f"p{i + 1}_{take:03d}.wav", wave, RATE)
    return root
