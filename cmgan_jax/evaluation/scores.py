"""Scores of files: all measures of a pair, and of many pairs in parallel.

A pair is scored as far as possible. A measure without a value is absent, with the reason; it is never a number such as
-1 or 0 that would silently enter an average. The rules:

- nothing is scored: a file that cannot be read, is empty, has more than one channel, or holds NaN or infinity; a
  silent clean file; lengths that differ by more than `LENGTH_TOLERANCE`;
- lengths that differ by less are cut to the shorter, and the file gets a note;
- levels that differ by more than `LEVEL_TOLERANCE` dB, and samples beyond `LARGEST`, get a note: the file is scored
  as it is, but measures that depend on the level (SSNR, CBAK, COVL, LLR) then say little;
- other rates than 16 kHz are resampled to it first, and the file gets a note;
- PESQ that fails, or kills its process, also removes CSIG, CBAK and COVL, which are computed from it; the others are
  kept;
- STOI needs 0.4 s of active speech; SI-SDR has no value for a silent estimate or a perfect one.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import soxr

from cmgan_jax.data import audio
from cmgan_jax.metrics import composite_scores, intelligibility, measures
from cmgan_jax.metrics.pesq_score import SILENT_RMS, Failure, Score
from cmgan_jax.metrics.scoring_pool import ScorePool

T = TypeVar("T")

RATE = 16_000
"""Sample rate in Hz at which all files are scored."""
TIME_LIMIT = 300.0
"""Maximum seconds for PESQ of one file; a minute of audio takes about three."""
LENGTH_TOLERANCE = 0.030
"""Seconds by which the lengths of a pair may differ, as an incomplete last frame may be lost."""
LEVEL_TOLERANCE = 40.0
"""Level difference in decibels between clean signal and estimate beyond which their scales are assumed to differ."""
LARGEST = 10.0
"""Magnitude that no recording in [-1, 1] exceeds, even if it is much too loud."""
METRICS = ("pesq", "csig", "cbak", "covl", "ssnr", "stoi", "estoi", "si_sdr", "llr", "wss")
"""All measures, in the order of tables; `cmgan_jax.metrics.measures` has ranges and units."""
NARROW = "pesq_nb"
"""Narrow-band PESQ, which is optional."""
LOWER_IS_BETTER = ("llr", "wss")
"""The two distances; for all other measures higher is better."""

_PESQ_REASONS = {
    Failure.no_utterances: "hears no speech in the clean file",
    Failure.too_short: "needs at least 1/4 s",
    Failure.non_finite: "needs finite samples",
    Failure.silent_reference: "needs a clean file that is not silent",
    Failure.silent_estimate: "is undefined for a silent estimate",
    Failure.undefined: "came out as no opinion score (more than 50 utterances can do that)",
    Failure.out_of_memory: "reached the memory limit of its process",
    Failure.pesq_error: "failed inside its library",
    Failure.timeout: "exceeded its time limit",
    Failure.worker_crash: "killed its process (more than 50 utterances do that)",
    Failure.injected: "was made to fail for an experiment",
}


@dataclass(frozen=True)
class FilePair:
    """A clean reference and an estimate of it, to be scored.

    Attributes:
        name: its name in tables and JSON.
        clean: a file, or float [S] in [-1, 1] at 16 kHz.
        estimate: a file, or float [S'] in [-1, 1] at 16 kHz.
    """

    name: str
    clean: Path | np.ndarray
    estimate: Path | np.ndarray


@dataclass(frozen=True)
class FileScores:
    """The scores of one pair; each measure is either in `values` or in `reasons`.

    Attributes:
        name: the pair's name.
        values: finite numbers by measure.
        reasons: why a measure has no value.
        notes: changes to the signals before scoring, and reasons to doubt the scores.
    """

    name: str
    values: dict[str, float]
    reasons: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def score_pair(
    clean: np.ndarray,
    estimate: np.ndarray,
    pool: ScorePool,
    *,
    name: str = "",
    published_scale: bool = False,
    narrow: bool = False,
) -> FileScores:
    """Compute all measures of a pair at 16 kHz; PESQ runs in the pool's processes meanwhile.

    Args:
        clean: float [S] in [-1, 1].
        estimate: float [S'] in [-1, 1].
        pool: processes that compute PESQ, at 16 kHz.
        name: the pair's name.
        published_scale: CSIG, CBAK, COVL and WSS as the published code computes them; see `measures.parts`.
        narrow: also compute narrow-band PESQ, which takes as long as the wide-band one.

    Returns:
        The scores; measures without a value are in `reasons`.

    Raises:
        UserError: PESQ processes can no longer be started.
    """
    wanted = (*METRICS, NARROW) if narrow else METRICS
    problem = _problem(clean, estimate)
    if problem is not None:
        return FileScores(name, {}, dict.fromkeys(wanted, problem))
    notes = _level_notes(clean, estimate)
    if clean.size != estimate.size:
        notes = (*notes, f"cut to the shorter of {clean.size} and {estimate.size} samples")
        shorter = min(clean.size, estimate.size)
        clean, estimate = clean[:shorter], estimate[:shorter]
    wide = pool.score(clean, estimate, "wb")
    narrow_band = pool.score(clean, estimate, "nb") if narrow else None
    found: dict[str, float | str] = {}
    of = _attempt(lambda: measures.parts(clean, estimate, RATE, published_scale=published_scale))
    found |= {name: of if isinstance(of, str) else getattr(of, name) for name in ("ssnr", "llr", "wss")}
    bands = _attempt(lambda: intelligibility.envelopes(clean, estimate, RATE))
    found["stoi"] = bands if isinstance(bands, str) else intelligibility.stoi(bands)
    found["estoi"] = bands if isinstance(bands, str) else intelligibility.estoi(bands)
    found["si_sdr"] = _explain_si_sdr(float(measures.si_sdr(clean, estimate)))
    found["pesq"] = _outcome(wide.result())
    if narrow_band is not None:
        found[NARROW] = _outcome(narrow_band.result())
    found |= _composite(found["pesq"], of)
    values = {key: found[key] for key in wanted}
    return FileScores(
        name,
        {key: value for key, value in values.items() if isinstance(value, float)},
        {key: value for key, value in values.items() if isinstance(value, str)},
        notes,
    )


def score_files(
    pairs: Iterable[FilePair], pool: ScorePool, *, published_scale: bool = False, narrow: bool = False
) -> Iterator[FileScores]:
    """Score pairs in parallel, in order; pairs are consumed as needed, so they may be made lazily.

    PESQ, most of the work, runs in the pool's processes; the rest is numpy in threads, which releases the interpreter's
    lock. Measured on two cores, this is as fast as scoring whole files in processes.

    Args:
        pairs: files or signals.
        pool: processes that compute PESQ, at 16 kHz.
        published_scale: see `score_pair`.
        narrow: see `score_pair`.

    Yields:
        The scores of each pair; for an unreadable file all measures are missing.

    Raises:
        UserError: PESQ processes can no longer be started.
    """

    def score(pair: FilePair) -> FileScores:
        wanted = (*METRICS, NARROW) if narrow else METRICS
        try:
            clean, clean_notes = _load("clean", pair.clean)
            estimate, estimate_notes = _load("estimate", pair.estimate)
        except audio.AudioError as error:
            return FileScores(pair.name, {}, dict.fromkeys(wanted, str(error)))
        scores = score_pair(clean, estimate, pool, name=pair.name, published_scale=published_scale, narrow=narrow)
        return FileScores(pair.name, scores.values, scores.reasons, clean_notes + estimate_notes + scores.notes)

    remaining = iter(pairs)
    # Two pairs per process: one in PESQ, one being read and measured.
    ahead = 2 * max(1, len(pool.pids))
    with ThreadPoolExecutor(ahead, thread_name_prefix="score") as threads:
        waiting = deque(threads.submit(score, pair) for pair in islice(remaining, ahead))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(threads.submit(score, pair) for pair in islice(remaining, 1))
        finally:
            threads.shutdown(cancel_futures=True)


def _load(kind: str, source: Path | np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    if isinstance(source, np.ndarray):
        return source, ()
    info = audio.probe(source)
    if info.channels != 1:
        raise audio.AudioError(source, f"{info.channels} channels: score one channel at a time")
    signal = audio.read(source)
    if info.sample_rate == RATE:
        return signal, ()
    return soxr.resample(signal, info.sample_rate, RATE), (f"{kind} resampled from {info.sample_rate} Hz",)


def _problem(clean: np.ndarray, estimate: np.ndarray) -> str | None:
    for kind, signal in (("clean", clean), ("estimate", estimate)):
        if signal.ndim != 1:
            return f"the {kind} signal has shape {list(signal.shape)}: score one channel at a time"
        if signal.size == 0:
            return f"the {kind} signal is empty"
        if not np.isfinite(signal).all():
            return f"the {kind} signal holds NaN or infinity"
        if np.abs(signal).max() > audio.LOUDEST:
            return f"the {kind} signal has samples as large as {np.abs(signal).max():.1e}"
    if _rms(clean) < SILENT_RMS:
        return "the clean signal is silent: there is nothing to compare with"
    if abs(clean.size - estimate.size) > LENGTH_TOLERANCE * RATE:
        return f"lengths differ: {clean.size} and {estimate.size} samples; align the estimate with the clean signal"
    return None


def _level_notes(clean: np.ndarray, estimate: np.ndarray) -> tuple[str, ...]:
    """Note implausible levels, which suggest different scales in storage, in the same words for every file."""
    notes = []
    reference, level = _rms(clean), _rms(estimate)
    factor = 10 ** (LEVEL_TOLERANCE / 20)
    if level > 0 and not reference / factor <= level <= reference * factor:
        notes.append(
            f"the estimate is more than {LEVEL_TOLERANCE:g} dB {'louder' if level > reference else 'quieter'} than the "
            "clean signal, so that SSNR and what is made of it say little: are the files at one scale?"
        )
    for kind, signal in (("clean signal", clean), ("estimate", estimate)):
        if np.abs(signal).max() > LARGEST:
            notes.append(
                f"the {kind}'s samples reach beyond ±{LARGEST:g} where ±1 is full scale: floats at 16-bit scale? "
                "Divide them by 32768"
            )
    return tuple(notes)


def _rms(signal: np.ndarray) -> float:
    return math.sqrt(np.mean(np.square(signal, dtype=np.float64)))


def _attempt(measure: Callable[[], T]) -> T | str:
    try:
        return measure()
    except ValueError as error:
        return str(error)


def _explain_si_sdr(decibels: float) -> float | str:
    if math.isfinite(decibels):
        return decibels
    if math.isnan(decibels):
        return "undefined for a silent estimate"
    return "unbounded: " + (
        "the estimate is the clean signal" if decibels > 0 else "nothing of the clean signal is left"
    )


def _outcome(score: Score) -> float | str:
    return score.value if score.failure is None else f"PESQ {_PESQ_REASONS[Failure(score.failure)]}"


def _composite(pesq: float | str, of: measures.Parts | str) -> dict[str, float | str]:
    if isinstance(pesq, float) and isinstance(of, measures.Parts):
        return asdict(composite_scores.combine(pesq, of))
    return dict.fromkeys(("csig", "cbak", "covl"), pesq if isinstance(pesq, str) else str(of))
