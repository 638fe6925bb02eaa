"""Recordings on disk: which there are, where each goes, and one from end to end in bounded memory.

The output has its input's format, sub-type, rate and length. Samples beyond full scale are kept by floating-point
sub-types; others cannot hold them. There they are clipped and *counted*: to turn a whole recording down for a few
samples would change its level, which the reader of a folder of files relies on.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from cmgan_jax.data import audio
from cmgan_jax.data.audio import AudioError
from cmgan_jax.errors import UserError
from cmgan_jax.evaluation.processor import Processor

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")
"""Files of a folder that are recordings, by their lower-case suffix; a file named by itself may have any."""
BLOCK_SECONDS = 10.0
"""Read and written at a time."""

_UNBOUNDED = ("FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Job:
    """One file to enhance.

    Attributes:
        source: the recording.
        target: where the result goes.
        name: how messages call it.
    """

    source: Path
    target: Path
    name: str


@dataclass(frozen=True)
class Done:
    """What came of a file.

    Attributes:
        seconds: its length.
        clipped: samples of the result that were beyond full scale and are clipped.
        peak: largest magnitude of the result before that.
    """

    seconds: float
    clipped: int
    peak: float


def plan(inputs: Iterable[Path], out: Path) -> list[Job]:
    """Pair every recording with its place under `out`: files by name, folders with their structure.

    Args:
        inputs: files and folders; of a folder, files with one of `SUFFIXES`, none hidden and none in `out`.
        out: folder of the results.

    Raises:
        UserError: there is no input, one is missing, a folder has no recording, two would get the same name, or a
            result would replace an input.
    """
    jobs = []
    for path in inputs:
        if path.is_dir():
            found = [file for file in sorted(path.rglob("*")) if _is_recording(file, path) and not _within(file, out)]
            if not found:
                raise UserError(f"{path}: no recordings in this folder ({' '.join(SUFFIXES)})")
            jobs += [Job(file, out / file.relative_to(path), str(file.relative_to(path))) for file in found]
        elif path.exists():
            jobs.append(Job(path, out / path.name, str(path)))
        else:
            raise UserError(f"{path}: no such file or folder")
    if not jobs:
        raise UserError("nothing to enhance: name at least one file or folder")
    sources = {job.source.resolve() for job in jobs}
    targets: dict[Path, Job] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in sources:
            raise UserError(f"{job.source}: its result {job.target} would replace an input; choose another --out")
        other = targets.setdefault(target, job)
        if other is not job and other.source.resolve() != job.source.resolve():
            raise UserError(
                f"{other.source} and {job.source} would both become {job.target}; name the folder above them, whose "
                "structure is kept, or call twice"
            )
    return list(targets.values())


def enhance_file(
    processor: Processor, job: Job, mono: bool = False, progress: Callable[[float], None] | None = None
) -> Done:
    """Enhance a file into its target, which appears whole or not at all.

    Args:
        processor: what enhances.
        job: from where to where.
        mono: enhance the mean of the channels, as one channel.
        progress: told the share that is through, 0 to 1.

    Raises:
        AudioError: the file cannot be read, is empty, damaged or not finite, or the result cannot be written.
    """
    if audio.is_audio(job.source):
        audio.probe(job.source)  # also notices a WAV file that was cut short
    try:
        source = soundfile.SoundFile(job.source)
    except soundfile.SoundFileError as error:
        raise AudioError(job.source, _why_not_opened(job.source) or f"not audio: {_words(error)}") from error
    with source:
        if source.frames == 0:
            raise AudioError(job.source, "holds no samples")
        return _convert(processor, job, source, mono, progress)


def _convert(
    processor: Processor,
    job: Job,
    source: soundfile.SoundFile,
    mono: bool,
    progress: Callable[[float], None] | None,
) -> Done:
    channels = 1 if mono else source.channels
    temporary = job.target.with_name(f".{job.target.name}.{os.getpid()}.tmp")
    bounded = source.subtype not in _UNBOUNDED
    clipped, peak, count = 0, 0.0, 0
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(
            temporary, "w", source.samplerate, channels, source.subtype, source.endian, source.format
        ) as target:
            stream = processor.stream(source.samplerate, channels, whole=True)

            def keep(done: np.ndarray) -> None:
                nonlocal clipped, peak
                if done.size:
                    peak = max(peak, float(np.abs(done).max()))
                    clipped += int(np.sum(np.abs(done) > 1.0)) if bounded else 0
                    target.write(np.clip(done, -1.0, 1.0) if bounded else done)

            for block in source.blocks(round(BLOCK_SECONDS * source.samplerate), dtype="float32", always_2d=True):
                bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
                if bad.size:
                    raise AudioError(job.source, f"sample {count + bad[0]} is NaN or infinite; mend the file first")
                keep(stream.push(block.mean(axis=1, keepdims=True) if mono else block))
                count += len(block)
                if progress:
                    progress(count / source.frames)
            if count != source.frames:
                raise AudioError(job.source, f"damaged: {source.frames} samples promised, {count} found")
            keep(stream.flush())
        os.replace(temporary, job.target)
    except soundfile.SoundFileError as error:
        raise AudioError(job.source, f"damaged, or cannot be written as {job.target}: {_words(error)}") from error
    except OSError as error:
        raise AudioError(job.target, error.strerror or str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return Done(count / source.samplerate, clipped, peak)


def _is_recording(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix.lower() in SUFFIXES and not hidden and file.is_file()


def _within(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _why_not_opened(path: Path) -> str | None:
    """The file system's words; libsndfile has none of its own for an empty file."""
    try:
        with path.open("rb"):
            return "empty file (0 bytes)" if path.stat().st_size == 0 else None
    except OSError as error:
        return error.strerror or str(error)


def _words(error: soundfile.SoundFileError) -> str:
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.removeprefix("Error : ").rstrip(".")
