"""Speech-like signals from a source-filter synthesiser, for tests and where no recordings are available.

A pulse train with a pitch contour and a noise source drive a chain of formant resonators that moves through vowels and
consonants at the pace of syllables, with pauses between words. No words are formed, but level, pitch, formants and
rhythm resemble speech, so that PESQ finds utterances and a model learns to keep harmonics and formants. The resonators
are applied to short-time spectra, which makes a time-varying filter without a loop over samples.

Source: G. Fant, Acoustic Theory of Speech Production, 1960 (source and filter); D. Klatt, "Software for a
cascade/parallel formant synthesizer", JASA 67, 1980 (resonators in cascade).
"""

from dataclasses import dataclass

import numpy as np

Samples = np.ndarray

SAMPLE_RATE = 16_000
_FRAME = 320  # 20 ms: long enough for two pitch periods of a low voice
_HOP = 80  # 5 ms: control rate, at which formants move smoothly

# First three formants of an average male voice, in Hz: G. Peterson and H. Barney, JASA 24, 1952, table II.
_VOWELS = np.array(
    [
        (270, 2290, 3010),  # heed
        (390, 1990, 2550),  # hid
        (530, 1840, 2480),  # head
        (660, 1720, 2410),  # had
        (730, 1090, 2440),  # hod
        (570, 840, 2410),  # hawed
        (440, 1020, 2240),  # hood
        (300, 870, 2240),  # who'd
        (640, 1190, 2390),  # hud
        (490, 1350, 1690),  # heard
    ],
    dtype=np.float64,
)
_UPPER_FORMANTS = (3500.0, 4500.0, 5500.0, 6500.0, 7500.0)  # of a uniform tube, 1 kHz apart
_BANDWIDTHS = np.array((60.0, 90.0, 120.0, 175.0, 250.0, 300.0, 350.0, 400.0))

# Consonants: seconds, voicing (0 to 1), frication (0 to 1), centre of the frication in Hz.
_CONSONANTS = (
    (0.10, 0.0, 0.7, 6000.0),  # s
    (0.10, 0.0, 0.8, 3500.0),  # sh
    (0.08, 0.0, 0.3, 5000.0),  # f
    (0.07, 0.4, 0.4, 5500.0),  # z
    (0.06, 0.0, 1.0, 4000.0),  # t, its burst
    (0.05, 0.0, 0.9, 2000.0),  # k, its burst
    (0.06, 0.35, 0.0, 1000.0),  # m, n
    (0.05, 0.5, 0.0, 1000.0),  # l, r
)


@dataclass(frozen=True)
class Speaker:
    """The parameters of one synthetic voice.

    Attributes:
        name: short name, used as a folder name.
        pitch: mean fundamental frequency in Hz.
        formant_scale: formant frequencies relative to those of an average man; above 1 for a shorter vocal tract.
        syllable_rate: syllables per second.
        breath: amplitude ratio of aspiration noise to voicing.
    """

    name: str
    pitch: float
    formant_scale: float
    syllable_rate: float
    breath: float


def make_speakers(count: int, seed: int = 0) -> tuple[Speaker, ...]:
    """Draw voices, alternating between low and high ones.

    Args:
        count: number of voices.
        seed: seed of the draw; the same seed gives the same voices.

    Returns:
        Speakers named ``s01``, ``s02``, … with pitches from 90 to 140 Hz and from 170 to 240 Hz.
    """
    speakers = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        high = index % 2 == 1
        speakers.append(
            Speaker(
                name=f"s{index + 1:02d}",
                pitch=rng.uniform(170, 240) if high else rng.uniform(90, 140),
                formant_scale=rng.uniform(1.08, 1.22) if high else rng.uniform(0.93, 1.05),
                syllable_rate=rng.uniform(3.5, 5.0),
                breath=rng.uniform(0.02, 0.08),
            )
        )
    return tuple(speakers)


@dataclass(frozen=True)
class _Score:
    """Control tracks of the synthesiser, one value per hop (K hops)."""

    pitch: np.ndarray  # [K], Hz
    voicing: np.ndarray  # [K]
    frication: np.ndarray  # [K]
    centre: np.ndarray  # [K], Hz
    formants: np.ndarray  # [K, 3], Hz


def synthesise(seconds: float, speaker: Speaker, seed: int) -> Samples:
    """Synthesise one utterance.

    Args:
        seconds: length in seconds, at least 0.1.
        speaker: the voice.
        seed: seed of every draw; the same seed and speaker give the same signal.

    Returns:
        Waveform [S], float32 at 16 kHz, RMS about 0.05 to 0.12, never above 0.99 in magnitude.

    Raises:
        ValueError: `seconds` is below 0.1.
    """
    if seconds < 0.1:
        raise ValueError(f"an utterance of {seconds} s is too short; ask for at least 0.1 s")
    rng = np.random.default_rng((seed, *speaker.name.encode()))
    samples = round(seconds * SAMPLE_RATE)
    score = _compose(-(-samples // _HOP) + 1, speaker, rng)
    grid = np.arange(samples) / _HOP
    steps = np.arange(len(score.pitch))

    def at_samples(track: np.ndarray) -> np.ndarray:
        return np.interp(grid, steps, track)

    noise = rng.standard_normal(samples)
    pulses = _glottal_pulses(at_samples(score.pitch))
    voiced = at_samples(score.voicing) * (pulses + speaker.breath * noise)
    hiss = at_samples(score.frication) * rng.standard_normal(samples)

    frequencies = np.fft.rfftfreq(2 * _FRAME, 1 / SAMPLE_RATE)
    wave = _filter(voiced, _vowel_response(frequencies, score.formants, speaker.formant_scale))
    wave += 0.4 * _filter(hiss, _fricative_response(frequencies, score.centre))
    wave *= rng.uniform(0.05, 0.12) / (np.sqrt(np.mean(wave**2)) + 1e-9)
    # A loud syllable must not clip; scaling the whole signal keeps its shape.
    return (wave * min(1.0, 0.99 / (np.abs(wave).max() + 1e-9))).astype(np.float32)


def _compose(length: int, speaker: Speaker, rng: np.random.Generator) -> _Score:
    """Draw words of one to four syllables, each followed by a pause, until `length` hops are filled."""
    voicing, frication, centre = np.zeros(length), np.zeros(length), np.full(length, 4000.0)
    formants = np.empty((length, 3))
    stress = np.zeros(length)
    per_second = SAMPLE_RATE / _HOP
    here = int(rng.uniform(0.0, 0.08) * per_second)
    formants[:] = _VOWELS[-1]
    while here < length:
        for _ in range(rng.integers(1, 5)):
            duration, voiced, noisy, where = _CONSONANTS[rng.integers(len(_CONSONANTS))]
            onset = max(2, int(duration * rng.uniform(0.8, 1.2) * per_second))
            # The closure before a burst: a stop is silence, then noise.
            closure = 6 if noisy >= 0.9 else 0
            nucleus = max(10, int(rng.uniform(0.7, 1.3) / speaker.syllable_rate * per_second) - onset - closure)
            first, last = _VOWELS[rng.integers(len(_VOWELS), size=2)]
            start, middle = here + closure, here + closure + onset
            end = middle + nucleus
            voicing[start:middle], frication[start:middle], centre[start:middle] = voiced, noisy, where
            loud = rng.uniform(0.6, 1.0)
            voicing[middle:end] = loud
            stress[middle:end] = loud
            # Half of the vowels are steady, half glide.
            glide = np.linspace(0, rng.choice((0.0, 0.8)), nucleus)[:, None]
            formants[start:middle] = first
            formants[middle:end] = (first + glide * (last - first))[: max(0, length - middle)]
            here = end
        here += int(rng.choice((0.04, 0.1, 0.25)) * rng.uniform(0.8, 1.4) * per_second)
    declination = np.linspace(1.12, 0.88, length)
    wander = _smooth(rng.standard_normal(length), 61) * 0.5
    pitch = speaker.pitch * declination * (1 + 0.15 * (_smooth(stress, 41) - 0.5) + wander)
    return _Score(
        pitch=np.maximum(pitch, 50.0),
        # The vocal tract moves in about 30 ms; a burst starts faster.
        voicing=_smooth(voicing, 7),
        frication=_smooth(frication, 3),
        centre=centre,
        formants=np.stack([_smooth(track, 13) for track in formants.T], axis=1),
    )


def _smooth(track: np.ndarray, width: int) -> np.ndarray:
    """Smooth a track by a moving average of odd `width` hops with Hann weights; end values are extended."""
    weight = np.hanning(width + 2)[1:-1]
    held = np.pad(track, width // 2, mode="edge")
    return np.convolve(held, weight / weight.sum(), mode="valid")


def _glottal_pulses(pitch: np.ndarray) -> np.ndarray:
    """Derivative of the glottal flow, one pulse per period: [S] from the pitch in Hz [S].

    Source: A. Rosenberg, "Effect of glottal pulse shape on the quality of natural vowels", JASA 49, 1971.
    """
    phase = np.cumsum(pitch / SAMPLE_RATE) % 1.0
    opening, closing = 0.4, 0.16  # shares of a period
    rise = 0.5 * np.pi / opening * np.sin(np.pi * phase / opening)
    fall = -0.5 * np.pi / closing * np.sin(0.5 * np.pi * (phase - opening) / closing)
    pulses = np.where(phase < opening, rise, np.where(phase < opening + closing, fall, 0.0))
    return pulses * 0.4


def _vowel_response(frequencies: np.ndarray, formants: np.ndarray, scale: float) -> np.ndarray:
    """Response of the cascaded resonators, unit gain at 0 Hz: [K, F] from formants in Hz [K, 3]."""
    s = 2j * np.pi * frequencies

    def resonator(centre: np.ndarray, bandwidth: float) -> np.ndarray:
        # A pole pair at -a ± jw: (a² + w²) / ((s + a)² + w²).
        a, w = np.pi * bandwidth, 2 * np.pi * scale * centre[:, None]
        return (a**2 + w**2) / ((s + a) ** 2 + w**2)

    moving, fixed = _BANDWIDTHS[: formants.shape[1]], _BANDWIDTHS[formants.shape[1] :]
    response = np.ones((1, len(frequencies)), np.complex128)
    for centre, bandwidth in zip(_UPPER_FORMANTS, fixed, strict=True):
        response = response * resonator(np.array([centre]), bandwidth)
    for centre, bandwidth in zip(formants.T, moving, strict=True):
        response = response * resonator(centre, bandwidth)
    return response


def _fricative_response(frequencies: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """A broad band around each centre in Hz: [K, F] from [K], largest gain 1."""
    octaves = np.log2(np.maximum(frequencies, 50.0) / centre[:, None])
    return np.exp(-0.5 * (octaves / 0.45) ** 2)


def _filter(source: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Filter [S] with a response [K, F] that changes every hop, by weighted overlap-add of short-time spectra."""
    hops = len(response)
    padded = np.zeros((hops - 1) * _HOP + _FRAME)
    padded[_FRAME // 2 : _FRAME // 2 + len(source)] = source
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
    # Periodic Hann windows hopped by a quarter of their length add up to 2.
    window = 0.25 * (1 - np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME))
    # Twice the length, so that the resonators ring past the frame instead of wrapping around.
    filtered = np.fft.irfft(np.fft.rfft(frames * window, 2 * _FRAME) * response, 2 * _FRAME)
    output = np.zeros((hops - 1) * _HOP + 2 * _FRAME)
    blocks = output.reshape(-1, _HOP)
    for part in range(2 * _FRAME // _HOP):
        blocks[part : part + hops] += filtered[:, part * _HOP : (part + 1) * _HOP]
    return output[_FRAME // 2 : _FRAME // 2 + len(source)]
