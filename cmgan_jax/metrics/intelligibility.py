"""Short-time objective intelligibility (STOI) and its extended form, vectorised over frames and segments.

This is not taken from a library because the published figures depend on details that the papers leave open: the
resampling filter (Kaiser window, beta 5, ten zero crossings per side), and a silence gate whose frames begin one
sample early. Other choices change a file's STOI by up to 0.009.
"""

from functools import lru_cache, reduce
from math import gcd

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RATE = 10_000
"""Sample rate in Hz at which both measures work."""
FRAME, HOP = 256, 128
"""Frame length and hop in samples."""
FFT = 512
"""Transform length in samples."""
BANDS, LOWEST = 15, 150.0
"""Number of third-octave bands, and centre frequency of the first one in Hz."""
SEGMENT = 30
"""Number of frames (384 ms) over which envelopes are correlated."""
ACTIVE_RANGE = 40.0
"""Level in dB below the clean signal's loudest frame under which frames are left out as inactive."""
BLOCK = 256
"""Frames that are transformed at a time, so that they fit the cache and an hour of audio fits in memory."""
STEADY = 1e-12
"""Relative variance below which an envelope counts as constant, since its variation is rounding noise."""
CLIP = 1 + 10 ** (15 / 20)
"""Upper limit of the estimate's envelope relative to the clean one: a signal-to-distortion ratio of -15 dB."""

_WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, FRAME + 1) / (FRAME + 1))  # Hann, without zeros


def envelopes(clean: Floats, estimate: Floats, sample_rate: int) -> Floats:
    """Third-octave envelopes of the frames in which the clean signal is active, which both measures compare.

    Args:
        clean: [S].
        estimate: [S].
        sample_rate: in Hz.

    Returns:
        [2, BANDS, frames].

    Raises:
        ValueError: there is less than one segment of active speech.
    """
    speech = active_speech(resample(np.stack([clean, estimate]), sample_rate, RATE))
    frames = max(0, speech.shape[-1] // HOP - 1)
    if frames < SEGMENT:
        raise ValueError(f"{frames} frames of active speech, {SEGMENT} are needed (0.4 s)")
    return band_envelopes(speech)


def stoi(bands: Floats) -> float:
    """Mean correlation of clean and clipped estimated envelopes over segments; Taal (2011), equations 3 to 6.

    Args:
        bands: [2, BANDS, frames], from `envelopes`.
    """
    # Loop over the 30 places in a segment; each iteration handles all segments at once, without copying them.
    places = _places(bands)
    energy = reduce(np.add, (place * place for place in places))
    gain = np.sqrt(_divide(energy[0], energy[1]))
    mean = reduce(np.add, (x for x, _ in places)) / SEGMENT
    x_x, x_c, c_c, total = (np.zeros_like(gain) for _ in range(4))
    for x, y in places:
        centred, clipped = x - mean, np.minimum(gain * y, CLIP * x)
        x_x += centred * centred
        x_c += centred * clipped
        c_c += clipped * clipped
        total += clipped
    variances = _varying(x_x, energy[0]) * _varying(c_c - total * total / SEGMENT, c_c)
    return float(np.mean(_divide(x_c, np.sqrt(variances))))


def estoi(bands: Floats) -> float:
    """Mean correlation of spectra within segments with normalised bands; Jensen (2016), equations 3 to 8.

    Args:
        bands: [2, BANDS, frames], from `envelopes`.
    """
    places = _places(bands)
    means = reduce(np.add, places) / SEGMENT
    spread = reduce(np.add, ((place - means) ** 2 for place in places))
    norms = np.sqrt(_varying(spread, spread + SEGMENT * means**2))
    total = np.zeros(means.shape[-1])
    for place in places:
        rows = _divide(place - means, norms)
        x, y = rows - rows.mean(axis=1, keepdims=True)
        total += _divide((x * y).sum(axis=0), np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0)))
    return float(np.mean(total)) / SEGMENT


def resample(signals: Floats, rate: int, target: int) -> Floats:
    """Change the sample rate with a polyphase filter; the signal is zero-padded at both ends.

    Args:
        signals: [..., S] at `rate` Hz.
        rate: in Hz.
        target: in Hz.

    Returns:
        [..., ceil(S * target / rate)].
    """
    if rate == target:
        return signals
    up, down = target // gcd(rate, target), rate // gcd(rate, target)
    taps, before = _polyphase(up, down)
    width = taps.shape[0]
    samples = signals.shape[-1]
    length = -(-samples * up // down)
    rows = -(-length // up)  # each row of `up` outputs starts `down` inputs after the one above
    after = max(0, max(rows - 1, 0) * down + width - before - samples)
    padded = np.pad(signals, [(0, 0)] * (signals.ndim - 1) + [(before, after)])
    windows = sliding_window_view(padded, width, axis=-1)[..., ::down, :][..., :rows, :]
    out = np.empty((*signals.shape[:-1], rows, up))
    for start in range(0, rows, BLOCK):
        out[..., start : start + BLOCK, :] = windows[..., start : start + BLOCK, :] @ taps
    return out.reshape(*signals.shape[:-1], rows * up)[..., :length]


def active_speech(signals: Floats) -> Floats:
    """Remove the frames in which the clean signal is silent from both signals, and join the others by overlap-add.

    Args:
        signals: [2, S], clean and estimate, at `RATE`.

    Returns:
        [2, HOP * active frames].
    """
    count = max(0, -(-(signals.shape[-1] - FRAME) // HOP))
    if count == 0:
        return np.zeros((2, 0))
    # In the published figures, the frames of the gate begin one sample early; the first sample wraps around.
    early = sliding_window_view(np.roll(signals[0], 1), FRAME)[::HOP][:count]
    energy = np.einsum("tw,tw,w->t", early, early, _WINDOW**2)
    active = np.flatnonzero(energy > energy.max() * 10 ** (-ACTIVE_RANGE / 10))
    halves = sliding_window_view(signals, HOP, axis=-1)[:, ::HOP]
    # Each joined half-frame is the sum of the first half of its own frame and the second half of the previous one.
    joined = halves[:, active] * _WINDOW[:HOP]
    joined[:, 1:] += halves[:, active[:-1] + 1] * _WINDOW[HOP:]
    return joined.reshape(2, -1)


def band_envelopes(speech: Floats) -> Floats:
    """Magnitudes in third-octave bands, over half-overlapping frames: [2, S] at `RATE` to [2, BANDS, frames]."""
    frames = sliding_window_view(speech, FRAME, axis=-1)[:, ::HOP]
    envelopes = np.empty((2, BANDS, frames.shape[1]))
    for start in range(0, frames.shape[1], BLOCK):
        spectra = np.fft.rfft(frames[:, start : start + BLOCK] * _WINDOW, FFT)
        power = spectra.real**2 + spectra.imag**2
        envelopes[..., start : start + BLOCK] = np.sqrt(_third_octaves() @ power.swapaxes(-1, -2))
    return envelopes


def _places(bands: Floats) -> list[Floats]:
    # Item n holds the n-th frame of every segment: views [2, BANDS, segments].
    count = bands.shape[-1] - SEGMENT + 1
    return [bands[..., n : n + count] for n in range(SEGMENT)]


def _varying(variance: Floats, energy: Floats) -> Floats:
    return np.where(variance > STEADY * energy, variance, 0.0)


def _divide(a: Floats, b: Floats) -> Floats:
    # The correlation with a constant band, for which the papers' ratio is 0 / 0, is defined as 0.
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0)


@lru_cache
def _third_octaves() -> Floats:
    edges = LOWEST * 2 ** ((2 * np.arange(BANDS + 1) - 1) / 6)
    first = np.rint(edges * FFT / RATE)
    bins = np.arange(FFT // 2 + 1)
    return ((bins >= first[:-1, None]) & (bins < first[1:, None])).astype(np.float64)


@lru_cache
def _polyphase(up: int, down: int) -> tuple[Floats, int]:
    # Output up * m + r is the dot product of column r with the inputs from down * m - before on.
    widest = max(up, down)
    half = 10 * widest
    kernel = np.sinc(np.arange(-half, half + 1) / widest) * np.kaiser(2 * half + 1, 5.0)
    kernel *= up / kernel.sum()
    before = half // up
    width = before + ((up - 1) * down + half) // up + 1
    taps = np.zeros((width, up))
    for phase in range(up):
        index = phase * down - (np.arange(width) - before) * up + half
        inside = (index >= 0) & (index <= 2 * half)
        taps[inside, phase] = kernel[index[inside]]
    return taps, before
