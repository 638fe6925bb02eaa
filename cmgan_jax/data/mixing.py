"""Crops and mixtures: pure functions of arrays and a random generator; nothing here reads a file."""

from collections.abc import Sequence

import numpy as np

SILENCE = 1e-9
"""Mean power below which a signal counts as silent: about one quantisation step of 16-bit audio."""

_FRAME = 320
"""Frame length in samples for measuring active power: 20 ms at 16 kHz."""
_ACTIVE_RANGE = 1e-4
"""Frames more than 40 dB below the loudest one are pauses."""


def crop_start(rng: np.random.Generator, frames: int, samples: int) -> int:
    """Draw the start of a random crop.

    Args:
        rng: source of the draw; exactly one number is drawn, whatever the lengths.
        frames: number of samples in the file.
        samples: number of samples in the crop.

    Returns:
        A start in [0, frames - samples]; 0 if the file is shorter than the crop.
    """
    return int(rng.integers(max(frames - samples, 0) + 1))


def repeat_to(audio: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a signal until it is long enough, and cut it to length.

    Args:
        audio: [S'], not empty.
        samples: number of samples S.

    Returns:
        [S], of the same dtype.
    """
    return audio if len(audio) == samples else np.resize(audio, samples)


def active_power(audio: np.ndarray) -> float:
    """Mean power of the frames that are not pauses.

    With the mean over all frames, a prompt with a long pause, or a bark in a silent file, would be mixed far louder
    than its SNR says.

    Args:
        audio: [S]; frames of 20 ms, the last may be shorter.

    Returns:
        Mean square over frames within 40 dB of the loudest; 0 if the signal is silent (`SILENCE`) or empty.
    """
    if len(audio) == 0:
        return 0.0
    starts = np.arange(0, len(audio), _FRAME)
    energy = np.add.reduceat(np.square(audio, dtype=np.float64), starts)
    lengths = np.minimum(len(audio) - starts, _FRAME)
    power = energy / lengths
    if power.max() < SILENCE:
        return 0.0
    active = power >= power.max() * _ACTIVE_RANGE
    return float(energy[active].sum() / lengths[active].sum())


def mix(clean: np.ndarray, noise: np.ndarray, snr_db: float) -> tuple[np.ndarray, np.ndarray]:
    """Add noise to speech at a signal-to-noise ratio.

    Args:
        clean: [S] in [-1, 1].
        noise: [S], at any level.
        snr_db: ratio of the active powers in dB.

    Returns:
        Clean and noisy, float32 [S]. Both are scaled down by one factor if either exceeds 1, so that nothing clips and
        the ratio is kept. If the noise is silent, noisy equals clean; if the speech is silent, the noise keeps its
        level.
    """
    speech_power, noise_power = active_power(clean), active_power(noise)
    gain = 1.0
    if speech_power > 0 and noise_power > 0:
        gain = np.sqrt(speech_power / noise_power) * 10 ** (-snr_db / 20)
    noisy = clean + (gain * noise if noise_power > 0 else 0.0)
    peak = max(np.abs(clean).max(initial=0.0), np.abs(noisy).max(initial=0.0), 1.0)
    return (clean / peak).astype(np.float32), (noisy / peak).astype(np.float32)


def babble(voices: Sequence[np.ndarray]) -> np.ndarray:
    """Mix several voices at equal loudness.

    Args:
        voices: at least one signal [S], all of one length.

    Returns:
        Their sum [S], float32; each is scaled to active power 1 before it is added, and silent ones add nothing.
    """
    total = np.zeros(len(voices[0]), np.float32)
    for voice in voices:
        power = active_power(voice)
        if power > 0:
            total += (voice / np.sqrt(power)).astype(np.float32)
    return total
