"""What recordings suffer beside noise: narrow bands, clipping, rooms and low levels, applied to training mixtures.

Pure functions of arrays and a random generator. The clean side keeps what a listener would not call damage (the band
of the recording, its room), so that the network learns to leave it alone.
"""

import numpy as np
from scipy import signal

from cmgan_jax.config import AugmentationConfig

_CUTOFFS = (3400.0, 7000.0)
"""Lowest and highest upper limit of a narrow band, in Hz: from telephones to wide-band speech."""
_FILTER_ORDER = 8
_DRIVE = (1.0, 4.0)
"""Softest and hardest drive of the soft clipping: the peak is driven to tanh(drive)."""
_REFLECTIONS = (3, 12)
"""Fewest and most early reflections."""
_DELAYS = (0.003, 0.05)
"""Seconds after the direct sound: what comes later is heard as reverberation and not as colour."""
_REFLECTED = 0.6
"""Largest gain of a reflection beside the direct sound."""
_STEP = 2.0**-15
"""One step of 16-bit audio."""

Pair = tuple[np.ndarray, np.ndarray]
"""Clean and noisy, float32 [S] in [-1, 1]."""


def reflect(clean: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Add early reflections of a room that is drawn at random.

    Args:
        clean: float32 [S].
        rng: source of the draws.
        sample_rate: in Hz.

    Returns:
        float32 [S]: the signal and 3 to 12 copies of it, 3 to 50 ms late and quieter the later, with random signs.
    """
    count = int(rng.integers(_REFLECTIONS[0], _REFLECTIONS[1] + 1))
    delays = rng.uniform(*_DELAYS, count)
    gains = rng.uniform(0, _REFLECTED, count) * np.exp(-delays / _DELAYS[1]) * rng.choice((-1.0, 1.0), count)
    response = np.zeros(round(_DELAYS[1] * sample_rate) + 1)
    response[0] = 1.0
    np.add.at(response, np.round(delays * sample_rate).astype(int), gains)
    return signal.fftconvolve(clean, response)[: len(clean)].astype(np.float32)


def limit_band(pair: Pair, rng: np.random.Generator, sample_rate: int) -> Pair:
    """Take what lies above a random frequency (3.4 to 7 kHz) from both sides, as a narrow-band recording lacks it.

    Args:
        pair: clean and noisy.
        rng: source of the draw.
        sample_rate: in Hz.

    Returns:
        Both through the same low-pass filter, without delay.
    """
    sections = signal.butter(_FILTER_ORDER, rng.uniform(*_CUTOFFS), fs=sample_rate, output="sos")
    clean, noisy = (signal.sosfiltfilt(sections, side).astype(np.float32) for side in pair)
    return clean, noisy


def clip_softly(noisy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Saturate a recording as an overdriven microphone does.

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
    """Bring the noisy side to a random level and round it to 16 bits there, as a quiet recording is.

    Args:
        pair: clean and noisy.
        rng: source of the draw.
        low_db: lowest level, root mean square in dB of full scale.
        high_db: highest level.

    Returns:
        Both scaled by the same factor, which never takes either beyond full scale; the noisy side in steps of
        2 ** -15.
    """
    clean, noisy = pair
    power = float(np.mean(np.square(noisy, dtype=np.float64)))
    gain = 10 ** (rng.uniform(low_db, high_db) / 20) / np.sqrt(power) if power > 0 else 1.0
    gain = min(gain, 1.0 / max(np.abs(clean).max(initial=0.0), np.abs(noisy).max(initial=0.0), 1e-9))
    return (gain * clean).astype(np.float32), (np.round(gain * noisy / _STEP) * _STEP).astype(np.float32)


def spoil(pair: Pair, rng: np.random.Generator, config: AugmentationConfig, sample_rate: int) -> Pair:
    """Apply to a mixture what the config asks for, each with its own probability.

    Args:
        pair: clean and noisy, float32 [S] in [-1, 1].
        rng: source of the draws; a kind whose share is 0 draws nothing.
        config: shares and levels.
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
    """Put clean speech into a room, with the probability that the config asks for. Arguments as in `spoil`."""
    return reflect(clean, rng, sample_rate) if _drawn(rng, config.reflection_share) else clean


def without_noise(rng: np.random.Generator, config: AugmentationConfig) -> bool:
    """Whether the next mixture is to have no noise. Arguments as in `spoil`."""
    return _drawn(rng, config.clean_share)


def _drawn(rng: np.random.Generator, share: float) -> bool:
    """True with a probability of `share`; nothing is drawn for 0, so that other runs see what they always saw."""
    return share > 0 and rng.random() < share
