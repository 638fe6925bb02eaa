"""Measures of an enhanced signal against its clean reference, in numpy, without JAX.

Every measure takes `clean` and `estimate`, [S] in [-1, 1], and returns plain numbers. Higher is better except
for the two distances, LLR and WSS. If a measure is undefined, it raises a ValueError with the reason, which
`scores` records for files without a score.

=========  ==================  ====  ==========================================================
name       range               unit  what it compares
=========  ==================  ====  ==========================================================
pesq       1.04 to 4.64 (wide) MOS   loudness over time and pitch; 1.02 to 4.55 in narrow band
csig       1 to 5              MOS   distortion of the speech, as listeners would rate it
cbak       1 to 5              MOS   intrusiveness of the background, as listeners would rate it
covl       1 to 5              MOS   overall quality, as listeners would rate it
ssnr       -10 to 35           dB    energy of the signal and of the difference, frame by frame
llr        0 or more           –     spectral envelopes, as linear predictors
wss        0 or more           –     slopes between critical bands
stoi       -1 to 1             –     band envelopes; 0.6 is hard to follow, over 0.9 easy
estoi      -1 to 1             –     spectro-temporal patterns, also under modulated noise
si_sdr     any                 dB    waveforms, up to a gain
=========  ==================  ====  ==========================================================
"""

from typing import Literal

import numpy as np
import pesq as pesq_library
from numpy.typing import ArrayLike, NDArray

from cmgan_jax.metrics import composite_scores as _composite
from cmgan_jax.metrics import intelligibility

Floats = NDArray[np.float64]
Composite = _composite.Composite
Parts = _composite.Parts


def si_sdr(clean: ArrayLike, estimate: ArrayLike) -> Floats:
    """Scale-invariant signal-to-distortion ratio.

    The estimate is split into its projection on the clean signal and the rest. Means are kept, as in the
    definition; the variant named SI-SNR removes them.

    Args:
        clean: [..., S], any scale.
        estimate: [..., S], any scale.

    Returns:
        [...] in dB, a scalar for one pair. It is unbounded: inf if the estimate is a scaled clean signal, -inf if it
        is orthogonal to the clean signal, nan if either signal is silent.

    Raises:
        ValueError: the shapes differ.

    References:
        Le Roux et al., "SDR: half-baked or well done?", ICASSP 2019, equations 3 to 5.
    """
    s, e = _pair(clean, estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.sum(s * e, axis=-1, keepdims=True) / np.sum(s * s, axis=-1, keepdims=True)
        target = gain * s
        ratio = np.sum(target**2, axis=-1) / np.sum((e - target) ** 2, axis=-1)
        return 10.0 * np.log10(ratio)


def pesq(clean: ArrayLike, estimate: ArrayLike, sample_rate: int = 16_000, mode: Literal["wb", "nb"] = "wb") -> float:
    """Perceptual evaluation of speech quality, computed in this process.

    The pesq package holds the interpreter's lock while it runs, and a signal of more than 50 utterances kills the
    process. So all commands that score files use `cmgan_jax.metrics.scoring_pool`, which runs it in other processes.

    Args:
        clean: [S], 1/4 s or more; its level does not matter.
        estimate: [S]; its level does not matter.
        sample_rate: 16,000 Hz, or 8,000 in narrow band.
        mode: `wb`, wide band (50 to 7,000 Hz), as in the literature on enhancement, or `nb`, narrow band.

    Returns:
        A mean opinion score (MOS-LQO): 1.04 to 4.64 in wide band, 1.02 to 4.55 in narrow band.

    Raises:
        ValueError: the clean signal has no speech or is too short, or the estimate is silent or not finite.

    References:
        ITU-T P.862 (2001); P.862.1 (the narrow-band scale); P.862.2 (wide band); P.862.3 (how to use both).
    """
    c, e = _pair(clean, estimate)
    try:
        return float(pesq_library.pesq(sample_rate, c, e, mode))
    except pesq_library.PesqError as error:
        detail = error.args[0] if error.args else type(error).__name__
        reason = detail.decode() if isinstance(detail, bytes) else str(detail)
        raise ValueError(f"PESQ gives no score: {reason}") from error


def parts(clean: ArrayLike, estimate: ArrayLike, sample_rate: int = 16_000, *, published_scale: bool = False) -> Parts:
    """Segmental SNR, LLR and WSS at once, which costs little more than one of them: they share frames and spectra.

    Args:
        clean: [S] in [-1, 1].
        estimate: [S] in [-1, 1].
        sample_rate: in Hz.
        published_scale: reproduce the published CMGAN evaluation, which treats samples in [-1, 1] as 16-bit ones, so
            that most band energies lie below the floor of WSS. WSS is then far too low, and CSIG, CBAK and COVL are
            up to 0.3 too high; the other parts do not change.

    Returns:
        The three parts; see `segmental_snr`, `log_likelihood_ratio`, `weighted_spectral_slope`.

    Raises:
        ValueError: the shapes differ, the signals are shorter than 37.5 ms, or the clean signal is silent.
    """
    c, e = _pair(clean, estimate)
    scale = 1.0 if published_scale else _composite.FULL_SCALE
    return _composite.parts(c * scale, e * scale, sample_rate)


def composite(
    clean: ArrayLike,
    estimate: ArrayLike,
    pesq_score: float,
    sample_rate: int = 16_000,
    *,
    published_scale: bool = False,
) -> Composite:
    """CSIG, CBAK and COVL: opinion scores predicted by a regression on PESQ, LLR, WSS and segmental SNR.

    Args:
        clean: [S] in [-1, 1].
        estimate: [S] in [-1, 1].
        pesq_score: PESQ of the pair, wide band in the literature on VoiceBank+DEMAND.
        sample_rate: in Hz.
        published_scale: see `parts`.

    Returns:
        Three opinion scores, each limited to 1 to 5.

    Raises:
        ValueError: as in `parts`.

    References:
        Hu and Loizou, "Evaluation of objective quality measures for speech enhancement", IEEE TASLP 16(1), 2008.
    """
    return _composite.combine(pesq_score, parts(clean, estimate, sample_rate, published_scale=published_scale))


def segmental_snr(clean: ArrayLike, estimate: ArrayLike, sample_rate: int = 16_000) -> float:
    """Segmental signal-to-noise ratio in dB: the mean over frames of 30 ms, each limited to -10 to 35 dB.

    A difference in gain counts as noise. Frames of digital silence count as -10 dB, as in the reference.

    References:
        Hansen and Pellom, "An effective quality evaluation protocol for speech enhancement algorithms",
        ICSLP 1998; Hu and Loizou (2008).
    """
    return parts(clean, estimate, sample_rate).ssnr


def log_likelihood_ratio(clean: ArrayLike, estimate: ArrayLike, sample_rate: int = 16_000) -> float:
    """How much worse the estimate's linear predictor (order 16) fits the clean signal than its own: 0 or more.

    It is the mean over the 95 % of 30 ms frames with the lowest values, and does not depend on gain.

    References:
        Quackenbush, Barnwell and Clements, "Objective Measures of Speech Quality", 1988; Hu and Loizou (2008).
    """
    return parts(clean, estimate, sample_rate).llr


def weighted_spectral_slope(
    clean: ArrayLike, estimate: ArrayLike, sample_rate: int = 16_000, *, published_scale: bool = False
) -> float:
    """Weighted squared differences of the slopes between 25 critical bands: 0 or more.

    It is the mean over the 95 % of 30 ms frames with the lowest values.

    References:
        Klatt, "Prediction of perceived phonetic distance from critical-band spectra", ICASSP 1982;
        Hu and Loizou (2008).
    """
    return parts(clean, estimate, sample_rate, published_scale=published_scale).wss


def stoi(clean: ArrayLike, estimate: ArrayLike, sample_rate: int = 16_000) -> float:
    """Short-time objective intelligibility: correlation of clipped third-octave envelopes over 384 ms.

    Args:
        clean: [S], any scale.
        estimate: [S], any scale.
        sample_rate: in Hz; the measure works at 10 kHz.

    Returns:
        -1 to 1, a monotonic index of the share of words understood; a silent estimate gives 0.

    Raises:
        ValueError: the shapes differ, or there is less than 0.4 s of active speech.

    References:
        Taal, Hendriks, Heusdens and Jensen, "An algorithm for intelligibility prediction of time-frequency
        weighted noisy speech", IEEE TASLP 19(7), 2011.
    """
    return intelligibility.stoi(intelligibility.envelopes(*_pair(clean, estimate), sample_rate))


def estoi(clean: ArrayLike, estimate: ArrayLike, sample_rate: int = 16_000) -> float:
    """Extended STOI: correlation of normalised spectrograms of 384 ms, also suited to modulated noise.

    Args, Returns and Raises as `stoi`.

    References:
        Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise
        maskers", IEEE/ACM TASLP 24(11), 2016.
    """
    return intelligibility.estoi(intelligibility.envelopes(*_pair(clean, estimate), sample_rate))


def _pair(clean: ArrayLike, estimate: ArrayLike) -> tuple[Floats, Floats]:
    c, e = np.asarray(clean, np.float64), np.asarray(estimate, np.float64)
    if c.shape != e.shape:
        raise ValueError(f"clean has shape {list(c.shape)} but estimate {list(e.shape)}: they must be equal")
    return c, e
