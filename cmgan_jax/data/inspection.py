"""The check before anything trains: every file is decoded wholly, and everything that is wrong is listed."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.data import audio, holdout, layout
from cmgan_jax.data.audio import AudioError
from cmgan_jax.data.corpus import Clip, Corpus, CorpusSource, Pair, Problem, fingerprint, stamp
from cmgan_jax.data.layout import Listing
from cmgan_jax.errors import UserError

Progress = Callable[[int, int], None]
"""Called with the number of files that are done, and of all files."""

_SILENT_SPAN = 4 / 32_768
"""A file whose samples span at most four 16-bit steps holds nothing but an offset and dither."""

_CONVERT = "convert the corpus with `python -m experiments.prepare_data pairs DIR --out DIR` (or `speech …`)"


@dataclass(frozen=True)
class Measured:
    """What decoding a file showed: its samples, and every reason not to use it."""

    frames: int
    reasons: tuple[str, ...] = ()


def open_corpus(
    source: CorpusSource, config: Config, skip_bad: bool = False, progress: Progress | None = None
) -> Corpus:
    """Find, check and divide a corpus: the one call that training needs.

    Args:
        source: what the person pointed at.
        config: its sample rate, and who is held out for validation.
        skip_bad: go on without bad files (`Corpus.skipped` tells which) instead of refusing.
        progress: told of every file that has been decoded.

    Returns:
        The corpus of the files that can be used.

    Raises:
        UserError: no corpus is there; files are bad (all are listed); or too few are left to train and validate.
    """
    listing, problems = inspect(layout.find(source), config.spectral.sample_rate, progress)
    if not skip_bad:
        require_sound(source, problems)
    speech, noise = (listing.train, None) if listing.kind == "paired" else (listing.speech, listing.noise)
    if not speech or (noise is not None and not noise):
        raise UserError(f"{source}: nothing is left to train on\n{report(problems)}")
    held = holdout.hold_out(listing, config)
    paths = [path for pair in (*listing.train, *listing.validation) for path in (pair.clean, pair.noisy)]
    paths += [clip.path for clip in (*listing.speech, *listing.noise)]
    return Corpus(
        kind=listing.kind,
        sample_rate=config.spectral.sample_rate,
        train=held.train,
        speech=held.speech,
        noise=held.noise,
        validation=held.validation,
        validation_noise=held.validation_noise,
        test=listing.test,
        skipped=tuple(problems),
        fingerprint=fingerprint(layout.relative_paths(listing), listing.manifest),
        stamps={path: stamp(path) for path in paths},
        passed_over=listing.passed_over,
    )


def inspect(listing: Listing, sample_rate: int, progress: Progress | None = None) -> tuple[Listing, list[Problem]]:
    """Decode every file of a listing.

    Args:
        listing: what `layout.find` found.
        sample_rate: samples per second that every file must have.
        progress: told of every file that has been decoded.

    Returns:
        The listing without the files that cannot be used, the rest with their lengths; and every problem, by path.
    """
    pairs = (*listing.train, *listing.validation, *listing.test)
    paths = [path for pair in pairs for path in (pair.clean, pair.noisy)]
    paths += [clip.path for clip in (*listing.speech, *listing.noise)]
    measured = _measure_all(paths, sample_rate, progress)
    problems = list(listing.problems)
    problems += [Problem(path, reason) for path in measured for reason in measured[path].reasons]
    for pair in pairs:
        clean, noisy = measured[pair.clean], measured[pair.noisy]
        # Lengths of files at different rates, or of broken ones, say nothing: those have their own problem.
        if not clean.reasons and not noisy.reasons and clean.frames != noisy.frames:
            problems.append(Problem(pair.noisy, f"{noisy.frames} samples, but its clean partner has {clean.frames}"))
    bad = {problem.path for problem in problems}
    sound = replace(
        listing,
        train=_sound_pairs(listing.train, measured, bad),
        validation=_sound_pairs(listing.validation, measured, bad),
        test=_sound_pairs(listing.test, measured, bad),
        speech=_sound_clips(listing.speech, measured, bad),
        noise=_sound_clips(listing.noise, measured, bad),
        problems=(),
    )
    return sound, sorted(problems)


def require_sound(source: CorpusSource, problems: list[Problem]) -> None:
    """Refuse a corpus with problems.

    Raises:
        UserError: there are any; the message lists all of them with the remedy.
    """
    if problems:
        raise UserError(
            f"{source}: {report(problems)}\nmend or remove these files, or go on without them with --skip-bad"
        )


def report(problems: list[Problem]) -> str:
    """All problems, one a line under their number."""
    files = len({problem.path for problem in problems})
    return "\n  ".join([f"{files} file{'' if files == 1 else 's'} cannot be used:", *map(str, problems)])


def measure(path: Path, sample_rate: int) -> Measured:
    """Decode a file wholly.

    Args:
        path: an audio file.
        sample_rate: samples per second that it must have.

    Returns:
        Its length and everything that is wrong with it.
    """
    try:
        info = audio.probe(path)
        samples = audio.read(path)
    except AudioError as error:
        return Measured(0, (error.reason,))
    reasons = []
    if info.sample_rate != sample_rate:
        reasons.append(f"sample rate {info.sample_rate} Hz instead of {sample_rate} Hz: {_CONVERT}")
    if info.channels != 1:
        reasons.append(f"{info.channels} channels instead of 1: {_CONVERT}")
    finite = np.isfinite(samples)
    if len(samples) == 0:
        reasons.append("empty: no samples")
    elif not finite.all():
        first = np.argmin(finite) / info.sample_rate
        reasons.append(f"{np.sum(~finite)} samples are NaN or infinite, the first at {first:.3f} s")
    elif np.abs(samples).max() > audio.LOUDEST:
        reasons.append(f"samples as large as {np.abs(samples).max():.1e}: no recording has them")
    elif np.ptp(samples) <= _SILENT_SPAN:
        reasons.append("silent: no sound from beginning to end")
    return Measured(len(samples), tuple(reasons))


def _measure_all(paths: list[Path], sample_rate: int, progress: Progress | None) -> dict[Path, Measured]:
    measured: dict[Path, Measured] = {}
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 16), thread_name_prefix="inspect")
    try:
        futures = {pool.submit(measure, path, sample_rate): path for path in paths}
        for done, future in enumerate(as_completed(futures), 1):
            measured[futures[future]] = future.result()
            if progress:
                progress(done, len(paths))
    finally:
        # Ctrl-C in the middle does not wait for the files that were still to come.
        pool.shutdown(cancel_futures=True)
    return measured


def _sound_pairs(pairs: Iterable[Pair], measured: Mapping[Path, Measured], bad: set[Path]) -> tuple[Pair, ...]:
    return tuple(
        replace(pair, frames=measured[pair.clean].frames)
        for pair in pairs
        if pair.clean not in bad and pair.noisy not in bad
    )


def _sound_clips(clips: Iterable[Clip], measured: Mapping[Path, Measured], bad: set[Path]) -> tuple[Clip, ...]:
    return tuple(replace(clip, frames=measured[clip.path].frames) for clip in clips if clip.path not in bad)
