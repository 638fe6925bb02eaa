"""Generated noise: coloured, modulated, mains hum and babble; seeded and of unit RMS."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Samples = np.ndarray
Kind = Literal["white", "pink", "brown", "rumble", "modulated", "hum", "babble"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""All kinds of noise; only `babble` needs recordings."""

SAMPLE_RATE = 16_000
BABBLE_VOICES = 6
"""Number of voices in babble: enough that no single one can be followed."""


def make_noise(kind: Kind, seconds: float, seed: int, voices: Sequence[Samples] = ()) -> Samples:
    """Generate noise of one kind.

    Args:
        kind: one of `KINDS`.
        seconds: length in seconds.
        seed: seed of every draw, including parameters (such as hum at 50 or 60 Hz).
        voices: utterances [S] at 16 kHz from which babble is made; unused by the other kinds.

    Returns:
        Noise [S], float32, of zero mean and unit RMS.

    Raises:
        ValueError: the kind is unknown, or babble has no voices.
    """
    samples = round(seconds * SAMPLE_RATE)
    rng = np.random.default_rng((seed, *kind.encode()))
    match kind:
        case "white":
            wave = rng.standard_normal(samples)
        case "pink":
            wave = coloured(samples, 1.0, rng)
        case "brown":
            # The spectrum of the noise in 21 VoiceBank+DEMAND test pairs falls with an exponent of 1.5 to 2.1 (62 Hz to
            # 8 kHz).
            wave = coloured(samples, 2.0, rng)
        case "rumble":
            wave = coloured(samples, rng.uniform(2.2, 2.8), rng)
        case "modulated":
            wave = modulated(samples, rng)
        case "hum":
            wave = hum(samples, rng)
        case "babble":
            wave = babble(voices, samples, rng)
        case _:
            raise ValueError(f"unknown kind of noise {kind!r}; there are: {', '.join(KINDS)}")
    return unit_rms(wave)


def unit_rms(wave: Samples) -> Samples:
    """Remove the mean and scale to unit RMS.

    Args:
        wave: [S]; silence is left as it is.

    Returns:
        [S], float32.
    """
    centred = wave - wave.mean()
    level = np.sqrt(np.mean(centred**2))
    return (centred / level if level > 0 else centred).astype(np.float32)


def coloured(samples: int, exponent: float, rng: np.random.Generator) -> Samples:
    """Make Gaussian noise whose power falls with frequency as 1 / f ** exponent.

    Below 20 Hz the spectrum is flat; otherwise most power of the steeper colours would be inaudible, and an SNR would
    say little.

    Args:
        samples: number of samples S.
        exponent: 0 for white, 1 for pink, 2 for brown noise.
        rng: source of the draws.

    Returns:
        [S], float64.
    """
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    return np.fft.irfft(spectrum * np.maximum(frequencies, 20.0) ** (-exponent / 2), samples)


def modulated(samples: int, rng: np.random.Generator) -> Samples:
    """Make coloured noise that swells and fades by up to 20 dB, at 0.5 to 6 Hz, like traffic or machinery.

    Args:
        samples: number of samples S.
        rng: source of the draws: colour, rate and depth.

    Returns:
        [S], float64.
    """
    carrier = coloured(samples, rng.uniform(1.5, 2.5), rng)
    phase = 2 * np.pi * (rng.uniform(0.5, 6.0) * np.arange(samples) / SAMPLE_RATE + rng.uniform())
    depth = rng.uniform(6.0, 10.0)  # dB up and down
    return carrier * 10 ** (depth * np.sin(phase) / 20)


def hum(samples: int, rng: np.random.Generator) -> Samples:
    """Make mains hum: 50 or 60 Hz with harmonics up to about 2 kHz, over a floor of brown noise 25 dB below.

    Args:
        samples: number of samples S.
        rng: source of the draws: mains frequency, strength and phase of every harmonic.

    Returns:
        [S], float64.
    """
    mains = rng.choice((50.0, 60.0)) * rng.uniform(0.998, 1.002)
    time = np.arange(samples) / SAMPLE_RATE
    tone = np.zeros(samples)
    for harmonic in range(1, int(2000 / mains) + 1):
        strength = rng.uniform(0.3, 1.0) / harmonic**1.5
        tone += strength * np.sin(2 * np.pi * (harmonic * mains * time + rng.uniform()))
    floor = unit_rms(coloured(samples, 2.0, rng))
    return unit_rms(tone) + 10 ** (-25 / 20) * floor


def babble(voices: Sequence[Samples], samples: int, rng: np.random.Generator) -> Samples:
    """Mix several voices, each a random chain of utterances at the same level.

    Args:
        voices: utterances [S] at 16 kHz, of any lengths.
        samples: number of samples S.
        rng: source of the draws.

    Returns:
        [S], float64.

    Raises:
        ValueError: there are no voices.
    """
    voices = [voice for voice in voices if len(voice)]
    if not voices:
        raise ValueError("babble is made of utterances, and none was given")
    total = np.zeros(samples)
    for _ in range(BABBLE_VOICES):
        chain, length = [], 0
        while length < 2 * samples:
            voice = unit_rms(voices[rng.integers(len(voices))])
            chain.append(voice)
            length += len(voice)
        start = rng.integers(length - samples + 1)
        total += np.concatenate(chain)[start : start + samples]
    return total
