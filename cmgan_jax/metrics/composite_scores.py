"""Segmental SNR, log-likelihood ratio, weighted spectral slope, and the composite measures made of them.

All three parts use the same frames (30 ms, a step of a quarter of that, Hann window), so `parts` frames and
transforms each signal only once, and nothing loops over single frames. Details that the papers leave open (the
number of frames, the rounding of band centres, the choice of spectral peaks) were chosen to match the numerical
results of the book's MATLAB reference.

References:
    Hu and Loizou, "Evaluation of objective quality measures for speech enhancement", IEEE TASLP 16(1), 2008.
    Loizou, "Speech Enhancement: Theory and Practice", 2nd edition, 2013, chapter 11.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FRAME_SECONDS = 0.030
"""Length of an analysis frame."""
KEPT = 0.95
"""Share of frames, the least distorted, over which LLR and WSS are averaged."""
BLOCK = 128
"""Frames that are processed at a time, so that their spectra fit the cache and an hour of audio fits in memory."""
SNR_RANGE = (-10.0, 35.0)
"""Limits of one frame's signal-to-noise ratio in dB."""
SCORE_RANGE = (1.0, 5.0)
"""Limits of a composite score: the opinion scale."""
RESIDUAL_FLOOR = 1e-13
"""Share of a frame's energy below which a predictor's residual is rounding noise (a pure tone reaches it)."""
FULL_SCALE = 32_768.0
"""Full scale of 16-bit audio, which corresponds to 1."""
EPSILON = float(np.finfo(np.float64).eps)
"""Added to noise energies and ratios, as in the reference, so that a frame of digital silence counts as -10 dB."""

# Centres and bandwidths in Hz of 25 critical bands, from 50 Hz to 3.6 kHz whatever the sample rate.
# fmt: off
_CENTRES = np.array([
    50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30, 1288.72,
    1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63])
_BANDWIDTHS = np.array([
    70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423,
    153.823, 168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136])
# fmt: on
_BAND_FLOOR = np.exp(-30 / (2 * 2.303))  # filters are cut off 30 dB down
_ENERGY_FLOOR = 1e-10  # of full scale; audio in [-1, 1] taken for 16-bit falls below it and hides distortion
_GLOBAL_PEAK_DB, _LOCAL_PEAK_DB = 20.0, 1.0  # Klatt's K_max and K_locmax


@dataclass(frozen=True)
class Composite:
    """The composite measures of one pair.

    Attributes:
        csig: predicted opinion of the signal's distortion, 1 to 5, higher is better.
        cbak: predicted opinion of the background's intrusiveness, 1 to 5, higher is better.
        covl: predicted opinion of the overall quality, 1 to 5, higher is better.
    """

    csig: float
    cbak: float
    covl: float


@dataclass(frozen=True)
class Parts:
    """The components of the composite measures other than PESQ.

    Attributes:
        ssnr: segmental SNR in dB, -10 to 35, higher is better.
        llr: log-likelihood ratio, 0 or more, lower is better.
        wss: weighted spectral slope distance, 0 or more, lower is better.
    """

    ssnr: float
    llr: float
    wss: float


def parts(clean: Floats, estimate: Floats, sample_rate: int) -> Parts:
    """Segmental SNR, LLR and WSS of one pair, from one framing and one transform.

    Args:
        clean: [S] at 16-bit scale.
        estimate: [S] at 16-bit scale.
        sample_rate: in Hz.

    Raises:
        ValueError: the signals are shorter than one frame and step, or the clean signal is silent.
    """
    snr, llr, wss = [], [], []
    for frames in frame_blocks(np.stack([clean, estimate]), sample_rate):
        power = power_spectra(frames)
        snr.append(frame_snr(frames))
        llr.append(frame_llr(power, sample_rate))
        wss.append(frame_wss(power, sample_rate))
    return Parts(
        ssnr=float(np.mean(np.concatenate(snr))),
        llr=kept_mean(np.concatenate(llr)),
        wss=kept_mean(np.concatenate(wss)),
    )


def combine(pesq: float, of: Parts) -> Composite:
    """The regressions of Hu and Loizou (2008), limited to the opinion scale.

    Args:
        pesq: mean opinion score; the wide-band one in the literature on VoiceBank+DEMAND.
        of: the other measures.
    """
    scores = (
        3.093 - 1.029 * of.llr + 0.603 * pesq - 0.009 * of.wss,
        1.634 + 0.478 * pesq - 0.007 * of.wss + 0.063 * of.ssnr,
        1.594 + 0.805 * pesq - 0.512 * of.llr - 0.007 * of.wss,
    )
    return Composite(*(float(np.clip(score, *SCORE_RANGE)) for score in scores))


def frame_blocks(signals: Floats, sample_rate: int) -> Iterator[Floats]:
    """Frames with a Hann window without zeros, as in the reference, which leaves out the last frame.

    Args:
        signals: [2, S], clean and estimate.
        sample_rate: in Hz.

    Yields:
        [2, at most `BLOCK`, window].

    Raises:
        ValueError: the signal is shorter than a frame and a step, so that there are no frames.
    """
    window = round(FRAME_SECONDS * sample_rate)
    step = window // 4
    count = (signals.shape[-1] - window) // step
    if count < 1:
        raise ValueError(f"too short: {signals.shape[-1]} samples, an analysis takes {window + step} or more")
    frames = sliding_window_view(signals, window, axis=-1)[:, ::step][:, :count]
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, window + 1) / (window + 1))
    for start in range(0, count, BLOCK):
        yield frames[:, start : start + BLOCK] * taper


def power_spectra(frames: Floats) -> Floats:
    """|FFT|² of each frame, zero-padded to at least twice its length (so it holds the autocorrelation too)."""
    spectra = np.fft.rfft(frames, 1 << (2 * frames.shape[-1] - 1).bit_length())
    return spectra.real**2 + spectra.imag**2


def frame_snr(frames: Floats) -> Floats:
    """Signal-to-noise ratio of each frame in dB, limited to `SNR_RANGE`; frames is [2, frames, window]."""
    clean, estimate = frames
    signal = np.einsum("tw,tw->t", clean, clean)
    noise = np.einsum("tw,tw->t", clean - estimate, clean - estimate)
    return np.clip(10 * np.log10(signal / (noise + EPSILON) + EPSILON), *SNR_RANGE)


def frame_llr(power: Floats, sample_rate: int) -> Floats:
    """Log-likelihood ratio of each frame: how much worse the estimate's linear predictor fits the clean frame.

    Args:
        power: [2, frames, bins].
        sample_rate: in Hz; the predictor's order is 16 from 10 kHz on, 10 below.

    Returns:
        [at most frames]: frames in which the clean signal is digital silence are left out. For a silent frame of the
        estimate, all predictor coefficients are 0.
    """
    power = power[:, power[0].any(axis=-1)]
    order = 16 if sample_rate >= 10_000 else 10
    lags = power @ _inverse_transform(power.shape[-1], order + 1)
    predictors = predictor(lags)
    index = np.arange(order + 1)
    toeplitz = lags[0][:, np.abs(index[:, None] - index)]
    energy = np.einsum("ati,tij,atj->at", predictors, toeplitz, predictors, optimize=True)
    energy = np.maximum(energy, RESIDUAL_FLOOR * lags[0][:, 0])
    return np.log(energy[1] / energy[0])


def predictor(lags: Floats) -> Floats:
    """Inverse filters of linear prediction by the Levinson-Durbin recursion, over all leading axes at once.

    Args:
        lags: [..., order + 1] autocorrelation.

    Returns:
        [..., order + 1] coefficients, the first of them 1; the others stay 0 in silence.
    """
    order = lags.shape[-1] - 1
    coefficients = np.zeros_like(lags)
    coefficients[..., 0] = 1
    error = lags[..., 0].copy()
    for i in range(1, order + 1):
        ahead = -np.einsum("...i,...i->...", coefficients[..., :i], lags[..., i:0:-1])
        reflection = np.divide(ahead, error, out=np.zeros_like(error), where=error > RESIDUAL_FLOOR * lags[..., 0])
        coefficients[..., : i + 1] += reflection[..., None] * coefficients[..., i::-1]
        error *= 1 - reflection**2
    return coefficients


def frame_wss(power: Floats, sample_rate: int) -> Floats:
    """Klatt's weighted spectral slope distance of each frame.

    Slopes between critical bands are compared, with larger weights near the frame's highest peak and near local peaks.

    Args:
        power: [2, frames, bins].
        sample_rate: in Hz.

    References:
        Klatt, "Prediction of perceived phonetic distance from critical-band spectra", ICASSP 1982.
    """
    filters = _band_filters(sample_rate, power.shape[-1] - 1)
    levels = 10 * np.log10(np.maximum(power[..., :-1] @ filters.T / FULL_SCALE**2, _ENERGY_FLOOR))
    slopes = np.diff(levels, axis=-1)
    lower = levels[..., :-1]
    highest = levels.max(axis=-1, keepdims=True)
    weights = (
        _GLOBAL_PEAK_DB
        / (_GLOBAL_PEAK_DB + highest - lower)
        * _LOCAL_PEAK_DB
        / (_LOCAL_PEAK_DB + _local_peaks(levels, slopes) - lower)
    ).mean(axis=0)
    return np.sum(weights * (slopes[0] - slopes[1]) ** 2, axis=-1) / np.sum(weights, axis=-1)


def kept_mean(distances: Floats) -> float:
    """Mean of the lowest 95 % of frames (rounded half to even), and of one frame at least.

    Raises:
        ValueError: no frame has a distance, because the clean signal is silent.
    """
    if distances.size == 0:
        raise ValueError("the clean signal is silent: there is nothing to compare with")
    kept = max(1, round(len(distances) * KEPT))
    return float(np.mean(np.sort(distances)[:kept]))


def _local_peaks(levels: Floats, slopes: Floats) -> Floats:
    # On a rising slope, the peak is at the end of the rise to the right, and the reference takes the band before it. On
    # a falling slope, it is at the start of the fall to the left. Running extremes of indices find both.
    count = slopes.shape[-1]
    index = np.arange(count)
    rising = slopes > 0
    ahead = np.where(rising, count, index)
    fall = np.minimum.accumulate(ahead[..., ::-1], axis=-1)[..., ::-1]
    rise = np.maximum.accumulate(np.where(rising, index, -1), axis=-1)
    return np.take_along_axis(levels, np.where(rising, fall - 1, rise + 1), axis=-1)


@lru_cache
def _inverse_transform(bins: int, lags: int) -> Floats:
    # Only a few lags are needed, and computing them by a matrix product costs a quarter of a full inverse FFT.
    size = 2 * (bins - 1)
    weights = np.full(bins, 2.0 / size)
    weights[[0, -1]] = 1.0 / size
    return weights[:, None] * np.cos(2 * np.pi / size * np.outer(np.arange(bins), np.arange(lags)))


@lru_cache
def _band_filters(sample_rate: int, bins: int) -> Floats:
    per_hertz = bins / (sample_rate / 2)
    distance = np.arange(bins) - np.floor(_CENTRES * per_hertz)[:, None]
    narrowest = _BANDWIDTHS[0] / _BANDWIDTHS[:, None]
    filters = narrowest * np.exp(-11 * (distance / (_BANDWIDTHS[:, None] * per_hertz)) ** 2)
    return np.where(filters > _BAND_FLOOR, filters, 0.0)
