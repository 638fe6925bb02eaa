"""Conversion of VoiceBank+DEMAND as published (48 kHz, zips or folders) to 16 kHz pairs for training.

The files are WAV, not FLAC: a training step reads a minute of audio in about 30 ms, WAV costs nothing to decode, every
tool of the field reads it, and both sets at 16 kHz take only 2.4 GB.

An interrupted run continues where it stopped (see `folder`).

Source: C. Valentini-Botinhao, "Noisy speech database for training speech enhancement algorithms and TTS models",
University of Edinburgh, 2017, https://doi.org/10.7488/ds/2117.
"""

import io
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

import numpy as np
import soxr

from cmgan_jax.data import audio, manifest
from cmgan_jax.data.folders import NAMED, composed, files_below
from cmgan_jax.data.prepare import folder
from cmgan_jax.errors import UserError, printable

SAMPLE_RATE = 16_000
CORPUS = "voicebank"
_SUFFIXES = (".wav", ".flac")
_SOURCE_RATES = (48_000, SAMPLE_RATE)
_LARGEST = 256 * 2**20  # maximum bytes of a zip member: utterances are under 2 MB, so anything near this is not one
_OVERHEAD = 4096 + 256  # bytes of a file besides its samples: header, rounding to blocks, manifest line
_SHOWN = 1000  # maximum lines of problems in a message
_SET = re.compile(r"(clean|noisy)_(trainset(?:_(28|56)spk)?|testset)_wav(\.zip)?", re.IGNORECASE)

_In = TypeVar("_In")
_Out = TypeVar("_Out")

Progress = Callable[[str, int, int], None]
"""Called with a label of the current task, the amount done, and the total."""


@dataclass(frozen=True)
class _Item:
    """An utterance in the source."""

    target: str  # such as train/clean/p226_001.wav
    where: str  # for messages
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class _Planned:
    """An utterance whose length is known."""

    item: _Item
    frames: int  # at 16 kHz


class _BadFileError(Exception):
    """One unusable file; the message is the reason."""


def prepare_voicebank(
    source: Path, out: Path, *, speakers: int | None = None, progress: Progress = lambda *_: None
) -> Path:
    """Convert the corpus; results of an earlier run are checked and kept.

    Args:
        source: folder with ``{clean,noisy}_{trainset_28spk,testset}_wav.zip``, or folders of these names.
        out: folder to make: ``{train,test}/{clean,noisy}/*.wav`` and ``manifest.json``.
        speakers: the training set to use, 28 or 56; None takes the one that exists, 28 if both do.
        progress: called with the state of the work.

    Returns:
        `out`.

    Raises:
        UserError: sets are missing; files are unreadable, unpaired or of another format (all are listed); the disk is
            too small; `out` holds other data. No folder `out` is left behind, unless it existed before and the problem
            is elsewhere.
    """
    work = folder.partial(out)
    with ExitStack() as stack:
        items = [item for subset in _sets(source, speakers) for item in _members(*subset, stack)]
        _check_names(items)
        planned, problems = _collect("checking the source", _plan, items, progress)
        _refuse(problems + _unequal(planned))
        here = out if out.exists() else work
        folder.refuse_foreign(here, CORPUS, {plan.item.target for plan in planned})
        known = manifest.read(here)
        old = {entry.path: entry for entry in known.files} if known else {}

        kept, _ = _collect("checking what is done", lambda plan: _kept(plan, here, old), planned, progress)
        found = {entry.path: entry for entry in kept if entry is not None}
        missing = [plan for plan in planned if plan.item.target not in found]
        if not missing and here == out and set(old) == set(found):
            return out
        _check_space(here, missing)
        if here == out:
            # From here on the folder is incomplete, and must not look complete.
            if work.exists():
                raise UserError(f"{out} is incomplete and {work} exists too; delete one of them")
            os.rename(out, work)
        folder.begin(work, CORPUS)
        made, problems = _collect("converting", lambda plan: _convert(plan, work), missing, progress)
        _refuse(problems)
    described = {"name": "VoiceBank+DEMAND", "doi": "10.7488/ds/2117", "folder": source.name}
    folder.finish(work, out, manifest.build(CORPUS, [*found.values(), *made], described))
    return out


def _sets(source: Path, speakers: int | None) -> list[tuple[str, Path]]:
    """Find each of the four sets: (``train/clean``, path), …; a zip is preferred to a folder, which may be partial."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; give the one that holds the downloaded zips")
    found: dict[tuple[str, str, str], Path] = {}
    for path in sorted(source.iterdir(), key=lambda path: path.name.lower().endswith(".zip")):
        if match := _SET.fullmatch(path.name):
            side, kind, number, suffix = match.groups()
            if path.is_dir() != bool(suffix):
                part = "train" if kind.lower().startswith("train") else "test"
                # The first edition, of 28 speakers, does not have the number in its names.
                found[part, side.lower(), (number or "28") if part == "train" else ""] = path
    numbers = sorted({number for part, _, number in found if part == "train"})
    chosen = str(speakers) if speakers else (numbers or ["28"])[0]
    wanted = [(p, s, chosen if p == "train" else "") for p in ("train", "test") for s in ("clean", "noisy")]
    if absent := [key for key in wanted if key not in found]:
        names = [f"{side}_{f'trainset_{number}spk' if number else 'testset'}_wav" for _, side, number in absent]
        raise UserError(
            f"{source} lacks {', '.join(names)} (.zip, or a folder of that name); "
            "download them from https://doi.org/10.7488/ds/2117"
        )
    return [(f"{part}/{side}", found[part, side, number]) for part, side, number in wanted]


def _members(target: str, path: Path, stack: ExitStack) -> Iterator[_Item]:
    """Yield the utterances of a set, from a zip or a folder."""
    if path.is_dir():
        for file in files_below(path, NAMED):
            yield _Item(
                f"{target}/{composed(file.stem)}.wav", printable(file), lambda file=file: audio.open_regular(file)
            )
        return
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except (zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path}: not a whole zip ({error}); download it again") from error
    for info in archive.infolist():
        inside = PurePosixPath(info.filename.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in info.filename:
            raise UserError(f"{path}: member {info.filename!r} leads outside of it; this is not the published zip")
        if not info.is_dir() and _wanted(inside):
            where = printable(f"{path}:{info.filename}")
            yield _Item(f"{target}/{composed(inside.stem)}.wav", where, lambda info=info: _member(archive, info))


def _wanted(inside: PurePosixPath) -> bool:
    """Whether it is an audio file, not a note or a system file that some systems add to folders and zips."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in inside.parts)
    return not hidden and inside.suffix.lower() in NAMED


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    """Open a zip member; its checksum is verified while reading."""
    where = printable(f"{archive.filename}:{info.filename}")
    if info.file_size > _LARGEST:
        raise _BadFileError(f"{where}: {info.file_size / 2**20:.0f} MiB is too large for an utterance")
    if info.flag_bits & 1:
        raise _BadFileError(f"{where}: encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # For other compression methods, zipfile unpacks a whole block at once, however much that gives.
        raise _BadFileError(f"{where}: compressed as the published zips are not; unpack the zip into a folder")
    with archive.open(info) as stream:
        # A limited read: reading everything, zipfile would unpack up to 2 GiB before it checks the size.
        return io.BytesIO(stream.read(info.file_size))


def _check_names(items: list[_Item]) -> None:
    """Raise an error for duplicate names, and for files without a partner."""
    seen: dict[str, _Item] = {}
    problems = []
    for item in items:
        if (other := seen.setdefault(item.target, item)) is not item:
            problems.append(f"{item.where}: the same name as {other.where}")
    for item in seen.values():
        if _partner(item.target) not in seen:
            side = "noisy" if "/clean/" in item.target else "clean"
            problems.append(f"{item.where}: no {side} file of this name")
    for part in ("train", "test"):
        if not any(target.startswith(part) for target in seen):
            problems.append(f"{part} set: no WAV or FLAC file in it")
    _refuse(problems)


def _partner(target: str) -> str:
    part, side, name = target.split("/")
    return f"{part}/{'noisy' if side == 'clean' else 'clean'}/{name}"


def _refuse(problems: list[str]) -> None:
    if problems:
        rest = f"\n  … and {len(problems) - _SHOWN} more" * (len(problems) > _SHOWN)
        lines = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        raise UserError(f"{len(problems)} problems in the source; download or repair these files:{lines}{rest}")


def _collect(
    label: str, work: Callable[[_In], _Out], items: Sequence[_In], progress: Progress
) -> tuple[list[_Out], list[str]]:
    """Do the work in threads (decoding and resampling release Python's lock); return results and bad files."""
    results, problems = [], []
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        futures = [pool.submit(work, item) for item in items]
        for done, future in enumerate(as_completed(futures), 1):
            try:
                results.append(future.result())
            except _BadFileError as error:
                problems.append(str(error))
            progress(label, done, len(items))
    finally:
        # After Ctrl-C or a full disk, do not begin what has not begun.
        pool.shutdown(cancel_futures=True)
    return results, sorted(problems)


def _decode(item: _Item) -> tuple[np.ndarray, int]:
    """Decode a whole utterance, [S] float32 in [-1, 1]; return it and its rate."""
    if not item.where.lower().endswith(_SUFFIXES):
        raise _BadFileError(f"{item.where}: not WAV or FLAC; own recordings go by `prepare_data pairs`")
    try:
        with item.open() as stream:
            # Read it at once, as errors of an archive would be lost in libsndfile's callbacks.
            content = io.BytesIO(stream.read())
        with audio.open_stream(Path(item.where), content) as file:
            rate, channels = file.samplerate, file.channels
            blocks = list(audio.blocks(Path(item.where), file, file.frames))
    except audio.AudioError as error:
        raise _BadFileError(f"{item.where}: {error.reason}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _BadFileError(f"{item.where}: unreadable: {error}") from error
    except (OSError, NotImplementedError) as error:  # The latter comes from zipfile, for an unknown compression method.
        raise _BadFileError(f"{item.where}: {error}") from error
    samples = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
    reasons = [
        (rate not in _SOURCE_RATES, f"{rate} Hz, neither 48000 nor 16000"),
        (channels != 1, f"{channels} channels, not one"),
        (samples.size == 0, "empty"),
        (not (np.abs(samples) <= audio.LOUDEST).all(), "holds NaN, infinity, or samples beyond any recording"),
        (samples.size > 0 and not samples.any(), "silent"),
    ]
    if broken := [reason for applies, reason in reasons if applies]:
        raise _BadFileError(f"{item.where}: {'; '.join(broken)}")
    return samples[:, 0], rate


def _plan(item: _Item) -> _Planned:
    """Decode an utterance only for its length, so that all damage is known before anything is written."""
    samples, rate = _decode(item)
    # The number of samples that the resampler gives, rounded half up.
    return _Planned(item, (len(samples) * SAMPLE_RATE + rate // 2) // rate)


def _convert(plan: _Planned, work: Path) -> manifest.ManifestEntry:
    samples, rate = _decode(plan.item)
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="VHQ")
    if len(samples) != plan.frames:
        raise _BadFileError(f"{plan.item.where}: changed while it was read")
    path = work / plan.item.target
    audio.write(path, manifest.to_pcm16(samples), SAMPLE_RATE)
    return manifest.describe(path, work)


def _unequal(planned: list[_Planned]) -> list[str]:
    frames = {plan.item.target: plan.frames for plan in planned}
    return [
        f"{plan.item.where}: {plan.frames} samples at 16 kHz, its noisy partner {other}"
        for plan in planned
        if "/clean/" in plan.item.target
        and (other := frames.get(_partner(plan.item.target), plan.frames)) != plan.frames
    ]


def _kept(plan: _Planned, here: Path, old: dict[str, manifest.ManifestEntry]) -> manifest.ManifestEntry | None:
    """Return the entry of a file that an earlier run finished; None if it must be made (again)."""
    path = here / plan.item.target
    try:
        if not path.exists() or audio.probe(path) != (plan.frames, SAMPLE_RATE, 1):
            return None
        entry = manifest.describe(path, here)
    except audio.AudioError:
        return None
    return entry if old.get(entry.path, entry).sha256 == entry.sha256 else None


def _check_space(here: Path, missing: list[_Planned]) -> None:
    place = next(path for path in (here.absolute(), *here.absolute().parents) if path.exists())
    needed = sum(2 * plan.frames + _OVERHEAD for plan in missing)
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"{place}: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free; free some or choose another --out"
        )
