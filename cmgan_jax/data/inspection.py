"""The check before training: every file is fully decoded, and every problem is listed."""

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from unicodedata import normalize

import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.data import audio, holdout, identity, layout
from cmgan_jax.data.audio import AudioError
from cmgan_jax.data.conversion import LEVELS_APART, SILENT_SPAN
from cmgan_jax.data.corpus import Clip, Corpus, CorpusSource, Pair, Problem, fingerprint, stamp
from cmgan_jax.data.layout import Listing
from cmgan_jax.errors import UserError

ItemT = TypeVar("ItemT", Pair, Clip)

Progress = Callable[[int, int], None]
"""Called with the number of files done, and the total number."""

_FULL_SCALE = 16.0
"""Mixing may exceed full scale, 1, but not by 24 dB; larger samples are integers stored as floats."""

_CONVERT = "convert the corpus with `cmgan prepare pairs DIR --out DIR` (or `speech …`)"


@dataclass(frozen=True)
class FileMeasurement:
    """The result of reading a file: its number of samples and every reason not to use it.

    `digest` is the SHA-256 of its bytes in hex, `content` the identifier of its samples (`identity.content`), and
    `power` the samples' variance.
    """

    frames: int
    reasons: tuple[str, ...] = ()
    digest: str = field(default="", compare=False)
    content: str = field(default="", compare=False)
    power: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Inspection:
    """A listing whose files have been read."""

    listing: Listing
    """The usable files, with their lengths."""
    problems: list[Problem]
    """Every problem, by path."""
    measured: Mapping[Path, FileMeasurement]
    """The measurement of each file, including unusable ones."""


def open_corpus(
    source: CorpusSource, config: Config, skip_bad: bool = False, progress: Progress | None = None
) -> Corpus:
    """Find, check and divide a corpus; training needs only this call.

    Args:
        source: the folders that the user named.
        config: gives the sample rate, and what is held out for validation.
        skip_bad: leave out bad files (listed in `Corpus.skipped`) instead of raising an error.
        progress: called after every decoded file.

    Returns:
        The corpus of the usable files.

    Raises:
        UserError: there is no corpus; files are bad (all are listed); or too few are left to train and validate.
    """
    checked = inspect(layout.find(source), config.spectral.sample_rate, progress)
    listing, problems = checked.listing, checked.problems
    if not skip_bad:
        require_sound(source, problems)
    speech, noise = (listing.train, None) if listing.kind == "paired" else (listing.speech, listing.noise)
    if not speech or (noise is not None and not noise):
        raise UserError(f"{source}: nothing is left to train on\n{report(problems)}")
    held = holdout.hold_out(listing, config)
    used = (*listing.train, *listing.validation, *listing.speech, *listing.noise)
    stamps = {path: stamp(path) for item in used for path in item.paths}
    files = list(layout.relative_paths(listing))
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
        fingerprint=fingerprint(
            ((normalize("NFC", name), checked.measured[path].digest, frames) for name, path, frames in files),
            listing.manifest,
        ),
        earlier_fingerprint=fingerprint(
            ((name, stamp(path).size, frames) for name, path, frames in files), listing.manifest
        ),
        hold_out=held.hold_out,
        notes=(*held.notes, *identity.notes(listing)),
        stamps=stamps,
        passed_over=listing.passed_over,
    )


def inspect(listing: Listing, sample_rate: int, progress: Progress | None = None) -> Inspection:
    """Decode every file of a listing.

    Args:
        listing: the result of `layout.find`.
        sample_rate: samples per second that every file must have.
        progress: called after every decoded file.

    Returns:
        The usable files, the problems, and the measurement of each file.
    """
    pairs = (*listing.train, *listing.validation, *listing.test)
    paths = [path for item in (*pairs, *listing.speech, *listing.noise) for path in item.paths]
    measured = _measure_all(paths, sample_rate, progress)
    problems = list(listing.problems)
    problems += [Problem(path, reason) for path in measured for reason in measured[path].reasons]
    for pair in pairs:
        clean, noisy = measured[pair.clean], measured[pair.noisy]
        # Lengths and levels are not compared for broken files or files at different rates: these have their own
        # problem.
        if clean.reasons or noisy.reasons:
            continue
        if clean.frames != noisy.frames:
            problems.append(Problem(pair.noisy, f"{noisy.frames} samples, but its clean partner has {clean.frames}"))
        gap = 10 * np.log10(noisy.power / clean.power)
        if abs(gap) > LEVELS_APART:
            word = "above" if gap > 0 else "below"
            reason = f"its level is {abs(gap):.0f} dB {word} its clean partner's: bring both to one scale"
            problems.append(Problem(pair.noisy, reason))
    sound = _without(listing, measured, {problem.path for problem in problems})
    leaks = identity.leaks(sound)
    problems += leaks
    sound = _without(sound, measured, {problem.path for problem in leaks})
    return Inspection(sound, sorted(problems), measured)


def require_sound(source: CorpusSource, problems: list[Problem]) -> None:
    """Raise an error if a corpus has problems.

    Raises:
        UserError: there are problems; the message lists all of them with the remedy.
    """
    if problems:
        raise UserError(
            f"{source}: {report(problems)}\nmend or remove these files, or go on without them with --skip-bad"
        )


def report(problems: list[Problem]) -> str:
    """Format all problems, one per line, below their number."""
    files = len({problem.path for problem in problems})
    return "\n  ".join([f"{files} file{'' if files == 1 else 's'} cannot be used:", *map(str, problems)])


def measure(path: Path, sample_rate: int) -> FileMeasurement:
    """Decode a whole file.

    Args:
        path: an audio file.
        sample_rate: samples per second that it must have.

    Returns:
        Its length, every problem, and the identifier of its content.
    """
    try:
        info = audio.probe(path)
        samples = audio.read(path)
        digest = _digest(path)
    except AudioError as error:
        return FileMeasurement(0, (error.reason,))
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
    elif np.abs(samples).max() > _FULL_SCALE:
        reasons.append(
            f"samples as large as {np.abs(samples).max():.3g}, where 1 is full scale: divide them by the former "
            "full scale (32768 for 16-bit values stored as floats)"
        )
    elif np.ptp(samples) <= SILENT_SPAN:
        reasons.append("silent: no sound from beginning to end")
    if reasons:
        return FileMeasurement(len(samples), tuple(reasons), digest)
    return FileMeasurement(len(samples), (), digest, identity.content(samples), float(np.var(samples)))


def _digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as a hash of the samples would change with the version of a lossy decoder."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise audio.system_error(path, error) from error


def _measure_all(paths: list[Path], sample_rate: int, progress: Progress | None) -> dict[Path, FileMeasurement]:
    measured: dict[Path, FileMeasurement] = {}
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 16), thread_name_prefix="inspect")
    try:
        futures = {pool.submit(measure, path, sample_rate): path for path in paths}
        for done, future in enumerate(as_completed(futures), 1):
            measured[futures[future]] = future.result()
            if progress:
                progress(done, len(paths))
    finally:
        # Ctrl-C does not wait for the files that have not begun.
        pool.shutdown(cancel_futures=True)
    return measured


def _without(listing: Listing, measured: Mapping[Path, FileMeasurement], bad: set[Path]) -> Listing:
    """Return the files of a listing that are not bad, with their measurements."""

    def sound(items: tuple[ItemT, ...]) -> tuple[ItemT, ...]:
        return tuple(
            replace(
                item, frames=measured[item.paths[0]].frames, contents=tuple(measured[p].content for p in item.paths)
            )
            for item in items
            if bad.isdisjoint(item.paths)
        )

    return replace(
        listing,
        train=sound(listing.train),
        validation=sound(listing.validation),
        test=sound(listing.test),
        speech=sound(listing.speech),
        noise=sound(listing.noise),
        problems=(),
    )
