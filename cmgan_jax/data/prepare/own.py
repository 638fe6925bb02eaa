"""Conversion of a user's own recordings, of any rate, format and channel count, to a corpus at 16 kHz.

Unusable files are named, and the others are converted. A second call converts what is missing or has changed: a file
counts as done if its source's bytes and its own samples have the recorded hashes. `conversion` defines how samples are
stored, `folder` how the output folder is managed.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from cmgan_jax.data import audio, conversion, manifest
from cmgan_jax.data.audio import AudioError
from cmgan_jax.data.corpus import Problem
from cmgan_jax.data.manifest import ManifestEntry
from cmgan_jax.data.prepare import folder
from cmgan_jax.data.prepare.recordings import SIDES, Item, plan_pairs, plan_speech
from cmgan_jax.errors import UserError, printable
from cmgan_jax.system.outputs import remove, settle

Kind = Literal["pairs", "speech"]
Progress = Callable[[str, int, int], None]
"""Called with a label of the current task, the amount done, and the total."""

_UNFIT_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Prepared:
    """The result of a preparation.

    Attributes:
        made: number of files converted by this call.
        kept: number of files converted by an earlier call.
        problems: unusable files, and why; none of them is in the corpus.
        notes: other remarks for the user.
    """

    made: int
    kept: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Known:
    """A converted file, as recorded in the manifest or the journal."""

    entry: ManifestEntry
    details: Mapping[str, Any] = field(default_factory=dict)


def prepare(kind: Kind, source: Path, out: Path, progress: Progress = lambda *_: None) -> Prepared:
    """Convert a folder of recordings; results of an earlier call are checked and kept.

    Args:
        kind: `pairs` or `speech`.
        source: the folder of recordings.
        out: the folder to make, with ``manifest.json``; it appears when everything is done.
        progress: called with the state of the work.

    Raises:
        UserError: the source has no recordings, or no usable ones; or `out` holds other data.
        OSError: the disk is full or refuses; call again to continue.
    """
    _refuse_nested(source, out)
    plan = plan_pairs(source) if kind == "pairs" else plan_speech(source)
    corpus = f"own-{kind}"
    work = folder.partial(out)
    here = out if out.exists() else work
    targets = {target for item in plan.items for target in item.targets}
    folder.refuse_foreign(here, corpus, targets)
    if here == out and work.exists():
        raise UserError(f"{out} and {work} exist both; delete one of them")
    known = _known(here)
    kept: dict[str, _Known] = {}
    if known:
        for found in _each("checking what is done", lambda item: _done(item, here, known), plan.items, progress):
            kept |= found or {}
    missing = [item for item in plan.items if item.targets[0] not in kept]
    if not missing and here == out and kept.keys() == known.keys():
        return Prepared(0, len(kept), plan.problems, (*plan.notes, *_float_notes(kept)))
    if here == out:
        # From here on the folder is incomplete, and must not look complete.
        os.rename(out, work)
    folder.begin(work, corpus, [_line(kept)] if kept else [])
    made: dict[str, _Known] = {}
    problems = list(plan.problems)
    for outcome in _each("converting", lambda item: _convert(item, work), missing, progress):
        if isinstance(outcome, Problem):
            problems.append(outcome)
        else:
            folder.record(work, _line(outcome))
            made |= outcome
    whole = kept | made
    if not whole:
        if not known:
            folder.abandon(work)
        raise UserError("\n  ".join([f"{source}: no file can be used:", *map(str, sorted(problems))]))
    for target in targets - whole.keys():
        (work / target).unlink(missing_ok=True)  # Its source can no longer be used.
    described = {"name": "own recordings", "kind": kind, "folder": os.path.basename(os.path.abspath(source))}
    details = {target: dict(of.details) for target, of in whole.items()}
    built = manifest.build(corpus, [of.entry for of in whole.values()], described, details)
    folder.finish(work, out, built)
    return Prepared(len(made), len(kept), tuple(sorted(problems)), (*plan.notes, *_float_notes(whole)))


def _refuse_nested(source: Path, out: Path) -> None:
    inner, outer = Path(os.path.realpath(out)), Path(os.path.realpath(source))
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"--out {printable(out)}: it must lie beside the recordings, and neither inside of the other")


def _line(files: Mapping[str, _Known]) -> dict[str, Any]:
    return {"files": [{"entry": asdict(of.entry), "details": dict(of.details)} for of in files.values()]}


def _known(here: Path) -> dict[str, _Known]:
    """Read what earlier calls made, by target: from the manifest, or from the journal where there is none yet."""
    whole = manifest.read(here)
    if whole is not None:
        return {entry.path: _Known(entry, whole.details.get(entry.path, {})) for entry in whole.files}
    lines = [file for line in folder.journal(here) for file in line.get("files", ())]
    return {file["entry"]["path"]: _Known(ManifestEntry(**file["entry"]), file["details"]) for file in lines}


def _done(item: Item, here: Path, known: Mapping[str, _Known]) -> dict[str, _Known] | None:
    """Return the records of an item, if its files were made from its sources as they are now; otherwise None."""
    found = {target: known[target] for target in item.targets if target in known}
    if len(found) < len(item.targets):
        return None
    try:
        for source, target, origin in zip(item.sources, item.targets, item.origins, strict=True):
            of = found[target].details
            if (of.get("source"), of.get("source_sha256")) != (origin, _hash(source)):
                return None
            if manifest.describe(here / target, here) != found[target].entry:
                return None
    except AudioError:
        return None
    return found


def _convert(item: Item, work: Path) -> dict[str, _Known] | Problem:
    """Convert the files of an item; all are moved into place once all of them are correct."""
    places = [work / target for target in item.targets]
    raws = [audio.beside(work / side).with_suffix(f".{side}.tmp") for side in SIDES[: len(places)]]
    try:
        hashes = [_hash(source) for source in item.sources]
        signals = [conversion.decode(source, raw) for source, raw in zip(item.sources, raws, strict=True)]
        if len(signals) == 2 and (reason := conversion.mismatch(signals[0], signals[1], raws[0], raws[1])):
            return Problem(item.sources[1], reason)
        for raw, place, signal in zip(raws, places, signals, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            conversion.write_wav(raw, audio.beside(place), signal)
        for place in places:
            settle(audio.beside(place), place)
    except AudioError as error:
        return Problem(error.path, error.reason)
    except OSError as error:
        if error.errno not in _UNFIT_NAME:
            raise
        return Problem(item.sources[0], f"its name cannot be used in {work.parent}: {error.strerror}")
    finally:
        for rest in (*raws, *(audio.beside(place) for place in places)):
            remove(rest)
    return {
        target: _Known(
            manifest.describe(place, work),
            {
                "source": origin,
                "source_sha256": digest,
                "source_rate": signal.rate,
                "source_channels": signal.channels,
                **({"stored": "32-bit float"} if signal.floats else {}),
            },
        )
        for target, place, origin, digest, signal in zip(
            item.targets, places, item.origins, hashes, signals, strict=True
        )
    }


def _hash(source: Path) -> str:
    digest = hashlib.sha256()
    with audio.open_regular(source) as file:
        try:
            while chunk := file.read(2**20):
                digest.update(chunk)
        except OSError as error:
            raise audio.system_error(source, error) from error
    return digest.hexdigest()


def _float_notes(files: Mapping[str, _Known]) -> list[str]:
    count = sum("stored" in of.details for of in files.values())
    reason = "they go beyond full scale, or are too quiet for 16 bits"
    return [f"{count} file{'s are' if count > 1 else ' is'} stored as 32-bit floats: {reason}"] if count else []


def _each(label: str, work: Callable[[_In], _Out], items: Sequence[_In], progress: Progress) -> Iterable[_Out]:
    """Do the work in threads, in any order (decoding and resampling release Python's lock)."""
    pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="prepare")
    try:
        for done, future in enumerate(as_completed([pool.submit(work, item) for item in items]), 1):
            yield future.result()
            progress(label, done, len(items))
    finally:
        # After Ctrl-C or a full disk, do not begin what has not begun.
        pool.shutdown(cancel_futures=True)
