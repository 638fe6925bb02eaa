"""Enhancement of recordings on disk: find them, choose output paths, and process each in bounded memory.

The output has the format, sub-type, sample rate, length and tags of its input. Samples beyond full scale are kept in
floating-point sub-types. Other sub-types cannot hold them, so they are clipped and *counted*: attenuating a whole
recording because of a few samples would change its level relative to other files.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from cmgan_jax.data import audio
from cmgan_jax.data.audio import AudioError
from cmgan_jax.data.folders import RECORDINGS, count_text, walk
from cmgan_jax.errors import UserError, printable
from cmgan_jax.inference.metadata import carried
from cmgan_jax.inference.processor import NOT_FINITE, Processor
from cmgan_jax.inference.sink import RecordingWriter
from cmgan_jax.system.outputs import refuse_folder, remove, settle

BLOCK_SECONDS = 10.0
"""Length of the blocks that are read and enhanced at a time."""

_UNBOUNDED = ("FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Job:
    """One file to enhance.

    Attributes:
        source: the recording.
        target: path of the result.
        name: name of the recording in messages.
    """

    source: Path
    target: Path
    name: str


@dataclass(frozen=True)
class Done:
    """Result of enhancing one file.

    Attributes:
        seconds: length of the recording.
        clipped: number of samples of the result that were beyond full scale and were clipped.
        peak: largest magnitude of the result before clipping.
        lost: metadata of the source that the result lacks, in words; empty if nothing is lost.
    """

    seconds: float
    clipped: int
    peak: float
    lost: str = ""


def left_out(inputs: Iterable[Path], out: Path) -> str:
    """Describe the files in the input folders that `plan` leaves out; empty if there are none."""
    counts: Counter[str] = Counter()
    for path in inputs:
        if path.is_dir():
            found = walk(path)
            counts.update(found.passed_over)
            counts["in the folder of the results"] += len(found.files) - len(_outside(found.files, path, out))
    return count_text(+counts)


def plan(inputs: Iterable[Path], out: Path) -> list[Job]:
    """Assign every recording its path under `out`: files by name, folders with their structure.

    Symbolic links to folders are followed, so a recording that is reachable by several names gets a result under each.

    Args:
        inputs: files of any name, and folders. From a folder, recordings are selected by suffix, without hidden files
            and without files in `out`, if that lies in the folder. Unreadable files and folders are listed as well, so
            that they fail by name.
        out: folder of the results.

    Raises:
        UserError: there is no input, one is missing, a folder has no recording, two results would have the same path,
            a result would replace an input, or `out` cannot be a folder.
    """
    refuse_folder("--out", out)
    jobs = []
    for path in inputs:
        if path.is_dir():
            there = walk(path)
            found = sorted([*_outside(there.files, path, out), *(closed.path for closed in there.unreadable)])
            if not found:
                raise UserError(f"{printable(path)}: no recordings in this folder ({' '.join(RECORDINGS)})")
            jobs += [Job(file, out / file.relative_to(path), str(file.relative_to(path))) for file in found]
        elif os.path.lexists(path):
            jobs.append(Job(path, out / path.name, str(path)))
        else:
            raise UserError(f"{printable(path)}: no such file or folder")
    if not jobs:
        raise UserError("nothing to enhance: name at least one file or folder")
    sources = {os.path.realpath(job.source) for job in jobs}
    targets: dict[str, Job] = {}
    for job in jobs:
        target = os.path.realpath(job.target)
        source, place = printable(job.source), printable(job.target)
        if target in sources:
            raise UserError(f"{source}: its result {place} would replace an input; choose another folder (--out)")
        other = targets.setdefault(target, job)
        if os.path.realpath(other.source) != os.path.realpath(job.source):
            raise UserError(
                f"{printable(other.source)} and {source} would both become {place}; name the folder above them, "
                "whose structure is kept, or call twice"
            )
    return list(targets.values())


def seconds_of(recordings: Iterable[Path]) -> list[float]:
    """Lengths of recordings in seconds, from their headers; unreadable recordings are left out."""
    found = []
    for recording in recordings:
        with suppress(AudioError), audio.open_recording(recording) as source:
            found.append(source.frames / source.samplerate)
    return found


def enhance_file(
    processor: Processor, job: Job, mono: bool = False, progress: Callable[[float], None] | None = None
) -> Done:
    """Enhance a file and write the target, which is complete or does not appear at all.

    Args:
        processor: the enhancer.
        job: source and target.
        mono: enhance the mean of the channels as a single channel.
        progress: called with the share that is done, from 0 to 1.

    Raises:
        AudioError: the file cannot be read, is empty, damaged or not finite, or the result is not finite or cannot
            be written.
    """
    with audio.open_recording(job.source) as source:
        if source.frames == 0:
            raise AudioError(job.source, "holds no samples")
        return _convert(processor, job, source, mono, progress)


def _convert(
    processor: Processor,
    job: Job,
    source: audio.Recording,
    mono: bool,
    progress: Callable[[float], None] | None,
) -> Done:
    channels = 1 if mono else source.channels
    temporary = audio.beside(job.target)
    bounded = source.subtype not in _UNBOUNDED
    clipped, peak, count = 0, 0.0, 0
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        kind = (source.samplerate, channels, source.subtype, source.endian, source.format)
        with audio.open_regular(job.source) as whole:
            beside = carried(whole, source.format)
        with RecordingWriter(temporary, kind, source.copy_metadata(), beside) as target:
            stream = processor.stream(source.samplerate, channels, whole=True)

            def keep(done: np.ndarray) -> None:
                nonlocal clipped, peak
                if not np.isfinite(done).all():
                    raise AudioError(job.source, NOT_FINITE)
                peak = max(peak, float(np.abs(done).max(initial=0.0)))
                clipped += int(np.sum(np.abs(done) > 1.0)) if bounded else 0
                target.write(np.clip(done, -1.0, 1.0) if bounded else done)

            size = round(BLOCK_SECONDS * source.samplerate)
            for block in audio.blocks(job.source, source, source.frames, size):
                # Negated, so that NaN counts as bad, too.
                bad = np.argwhere(~(np.abs(block) <= audio.LOUDEST))
                if bad.size:
                    what = f"sample {count + bad[0, 0]} is {block[*bad[0]]:.1e}"
                    raise AudioError(job.source, f"{what}, which is no sound; mend the file first")
                keep(stream.push(block.mean(axis=1, keepdims=True) if mono else block))
                count += len(block)
                if progress:
                    progress(count / source.frames)
            keep(stream.flush())
        refuse_torn(temporary, job.target, count)
        settle(temporary, job.target)
    except soundfile.SoundFileError as error:
        raise AudioError(job.target, f"cannot be written: {audio.library_reason(error)}") from error
    except OSError as error:
        raise audio.system_error(job.target, error) from error
    finally:
        remove(temporary)
    return Done(count / source.samplerate, clipped, peak, beside.lost)


def refuse_torn(written: Path, target: Path, frames: int) -> None:
    """Check that a written file is complete.

    ALAC is written through a file in the temporary folder, and no error is reported if the disk there is full.

    Raises:
        AudioError: the file holds fewer samples than expected, or is not audio.
    """
    with open(written, "rb") as opened, soundfile.SoundFile(opened.fileno(), closefd=False) as file:
        found = file.frames
    if found < frames:
        raise AudioError(target, f"cannot be written: {found} of {frames} samples are there; is the disk full?")


def _outside(files: Iterable[Path], folder: Path, out: Path) -> list[Path]:
    """The files of a folder without those in the folder of the results, if that lies inside."""
    if not _within(out, folder) or _within(folder, out):
        return list(files)
    return [file for file in files if not _within(file, out)]


def _within(file: Path, folder: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))
