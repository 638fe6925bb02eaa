"""Augmentations of training mixtures: band limits, clipping, early reflections and low levels.

Pure functions of arrays and a random generator. The clean target keeps properties that a listener would not call damage
(the recording's bandwidth, its room), so that the network learns to leave them alone.
"""

import numpy as np
from scipy import signal

from cmgan_jax.config import AugmentationConfig

_CUTOFFS = (3400.0, 7000.0)
"""Lowest and highest cutoff of the band limit in Hz, from telephone to wide-band speech."""
_FILTER_ORDER = 8
_DRIVE = (1.0, 4.0)
"""Lowest and highest drive of the soft clipping, which maps the peak to tanh(drive)."""
_REFLECTIONS = (3, 12)
"""Minimum and maximum number of early reflections."""
_DELAYS = (0.003, 0.05)
"""Shortest and longest delay of a reflection in seconds; later ones are heard as reverberation, not as colouration."""
_REFLECTED = 0.6
"""Largest gain of a reflection relative to the direct sound."""
_STEP = 2.0**-15
"""One quantisation step of 16-bit audio."""

Pair = tuple[np.ndarray, np.ndarray]
"""Clean and noisy, float32 [S] in [-1, 1]."""


def reflect(clean: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Add early reflections of a random room.

    Args:
        clean: float32 [S].
        rng: source of the draws.
        sample_rate: in Hz.

    Returns:
        float32 [S]: the signal plus 3 to 12 copies of it, delayed by 3 to 50 ms, quieter the later they are, with
        random signs.
    """
    count = int(rng.integers(_REFLECTIONS[0], _REFLECTIONS[1] + 1))
    delays = rng.uniform(*_DELAYS, count)
    gains = rng.uniform(0, _REFLECTED, count) * np.exp(-delays / _DELAYS[1]) * rng.choice((-1.0, 1.0), count)
    response = np.zeros(round(_DELAYS[1] * sample_rate) + 1)
    response[0] = 1.0
    np.add.at(response, np.round(delays * sample_rate).astype(int), gains)
    return signal.fftconvolve(clean, response)[: len(clean)].astype(np.float32)


def limit_band(pair: Pair, rng: np.random.Generator, sample_rate: int) -> Pair:
    """Remove frequencies above a random cutoff (3.4 to 7 kHz) from both signals, as in a narrow-band recording.

    Args:
        pair: clean and noisy.
        rng: source of the draw.
        sample_rate: in Hz.

    Returns:
        Both signals after the same zero-delay low-pass filter.
    """
    sections = signal.butter(_FILTER_ORDER, rng.uniform(*_CUTOFFS), fs=sample_rate, output="sos")
    clean, noisy = (signal.sosfiltfilt(sections, side).astype(np.float32) for side in pair)
    return clean, noisy


def clip_softly(noisy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Saturate a recording like an overdriven microphone.

    Args:
        noisy: float32 [S].
        rng: source of the draw.

    Returns:
        float32 [S]: tanh of the driven signal, with the same slope around 0 as before. Silence stays silence.
    """
    peak = float(np.abs(noisy).max(initial=0.0))
    if peak == 0.0:
        return noisy
    drive = rng.uniform(*_DRIVE) / peak
    return (np.tanh(drive * noisy) / drive).astype(np.float32)


def set_level(pair: Pair, rng: np.random.Generator, low_db: float, high_db: float) -> Pair:
    """Scale the noisy signal to a random level and round it to 16 bits there, as in a quiet recording.

    Args:
        pair: clean and noisy.
        rng: source of the draw.
        low_db: lowest level, as root mean square in dB relative to full scale.
        high_db: highest level.

    Returns:
        Both scaled by the same factor, which never takes either beyond full scale; the noisy signal is quantised in
        steps of 2 ** -15.
    """
    clean, noisy = pair
    power = float(np.mean(np.square(noisy, dtype=np.float64)))
    gain = 10 ** (rng.uniform(low_db, high_db) / 20) / np.sqrt(power) if power > 0 else 1.0
    gain = min(gain, 1.0 / max(np.abs(clean).max(initial=0.0), np.abs(noisy).max(initial=0.0), 1e-9))
    return (gain * clean).astype(np.float32), (np.round(gain * noisy / _STEP) * _STEP).astype(np.float32)


def spoil(pair: Pair, rng: np.random.Generator, config: AugmentationConfig, sample_rate: int) -> Pair:
    """Apply the configured augmentations to a mixture, each with its own probability.

    Args:
        pair: clean and noisy, float32 [S] in [-1, 1].
        rng: source of the draws; an augmentation with probability 0 draws nothing.
        config: probabilities and levels.
        sample_rate: in Hz.

    Returns:
        Clean and noisy, float32 [S] in [-1, 1].
    """
    if _drawn(rng, config.narrow_band_share):
        pair = limit_band(pair, rng, sample_rate)
    if _drawn(rng, config.clipping_share):
        pair = pair[0], clip_softly(pair[1], rng)
    if _drawn(rng, config.level_share):
        pair = set_level(pair, rng, config.level_low, config.level_high)
    return pair


def room(clean: np.ndarray, rng: np.random.Generator, config: AugmentationConfig, sample_rate: int) -> np.ndarray:
    """Add a room to clean speech, with the configured probability. The arguments are those of `spoil`."""
    return reflect(clean, rng, sample_rate) if _drawn(rng, config.reflection_share) else clean


def without_noise(rng: np.random.Generator, config: AugmentationConfig) -> bool:
    """Draw whether the next mixture has no noise. The arguments are those of `spoil`."""
    return _drawn(rng, config.clean_share)


def _drawn(rng: np.random.Generator, share: float) -> bool:
    """Return True with probability `share`; 0 draws nothing, so that other runs keep their random stream."""
    return share > 0 and rng.random() < share
