"""The plan of a conversion, from file names alone: which recordings can be converted, which are left out, and why.

======  ==============================================================  =========================================
kind    what is read                                                    what is made
======  ==============================================================  =========================================
pairs   DIR/{clean,noisy}, or DIR/{train,validation,test}/{clean,noisy}  OUT/{train,…}/{clean,noisy}/**/NAME.wav
speech  DIR/**                                                          OUT/**/NAME.wav (so that DIR/speech and
                                                                        DIR/noise become a mixed corpus)
======  ==============================================================  =========================================

Folders inside these are kept, since the first one identifies the speaker.

A file with several names through links is converted under each name in pairs, where it has several partners, but only
once in speech, where it would only be counted twice.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cmgan_jax.data.corpus import Problem
from cmgan_jax.data.folders import RECORDINGS, by_name, composed, count_text, walk
from cmgan_jax.errors import UserError, printable

SIDES = ("clean", "noisy")
"""The two folders of a paired corpus."""

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Item:
    """Files that are converted together: one file, or a clean file and its noisy version.

    Attributes:
        sources: the source files.
        targets: the files to be made, as paths below the corpus's folder with forward slashes.
        origins: the sources' paths below the source folder, for the record.
    """

    sources: tuple[Path, ...]
    targets: tuple[str, ...]
    origins: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The contents of a source folder.

    Attributes:
        items: items that can be converted, judged by their names.
        problems: files that cannot be converted, and why.
        notes: remarks on what else is left out.
    """

    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def plan_speech(source: Path) -> Plan:
    """Plan the conversion of every recording below a folder, each under one name.

    Raises:
        UserError: there is no recording.
    """
    _require_folder(source)
    found = walk(source)
    problems = [Problem(path, reason) for path, reason in found.unreadable]
    items, again, seen = [], 0, set()
    for name, (path, *others) in by_name(source, found.files).items():
        problems += [_namesake(other, path) for other in others]
        identity = _identity(path)
        if identity in seen:
            again += 1
            continue
        seen.add(identity)
        items.append(Item((path,), (f"{name}.wav",), (_origin(source, path),)))
    if not items:
        raise UserError(f"{printable(source)} holds no recordings ({' '.join(RECORDINGS)})")
    notes = [f"no recordings, passed over: {count_text(found.passed_over)}"] if found.passed_over else []
    if again:
        notes.append(f"{again} names lead to files that have another name too: each file is converted once")
    return Plan(tuple(items), tuple(sorted(problems)), tuple(notes))


def plan_pairs(source: Path) -> Plan:
    """Plan the conversion of every clean recording that has a noisy version of the same name.

    Raises:
        UserError: there is no pair, or the folder does not have the layout of pairs.
    """
    _require_folder(source)
    items: list[Item] = []
    problems: list[Problem] = []
    passed_over: Counter[str] = Counter()
    parts = _parts(source)
    for part, folder in parts.items():
        sides: dict[str, dict[str, Path]] = {}
        for side in SIDES:
            found = walk(folder / side)
            problems += [Problem(path, reason) for path, reason in found.unreadable]
            passed_over.update(found.passed_over)
            names = by_name(folder / side, found.files)
            problems += [_namesake(other, paths[0]) for paths in names.values() for other in paths[1:]]
            sides[side] = {name: paths[0] for name, paths in names.items()}
        for side, other in (SIDES, SIDES[::-1]):
            alone = sides[side].keys() - sides[other].keys()
            problems += [Problem(sides[side][name], f"no {other} file of that name") for name in alone]
        for name in sorted(sides["clean"].keys() & sides["noisy"].keys()):
            files = tuple(sides[side][name] for side in SIDES)
            targets = tuple(f"{part}/{side}/{name}.wav" for side in SIDES)
            items.append(Item(files, targets, tuple(_origin(source, path) for path in files)))
    if not items:
        raise UserError(
            "\n  ".join([f"{printable(source)} holds no pairs of equal names", *map(str, sorted(problems))])
        )
    notes = [f"no recordings, passed over: {count_text(passed_over)}"] if passed_over else []
    used = {"clean", "noisy"} if source in parts.values() else set(parts)
    if others := sorted(path.name for path in source.iterdir() if path.name not in used and path.name[0] != "."):
        notes.append(f"left out beside the pairs: {', '.join(map(printable, others))}")
    return Plan(tuple(items), tuple(sorted(problems)), tuple(notes))


def _parts(source: Path) -> dict[str, Path]:
    """Find the folders that hold clean/ and noisy/, by their name in the corpus."""
    parts = {part: source / part for part in _PARTS if any((source / part / side).is_dir() for side in SIDES)}
    if any((source / side).is_dir() for side in SIDES):
        if parts:
            both = f"clean/ or noisy/, and {', '.join(f'{part}/' for part in parts)}"
            raise UserError(f"{printable(source)} holds {both}: point at a folder with one of these layouts")
        parts = {"train": source}
    for folder in parts.values():
        for side in SIDES:
            if not (folder / side).is_dir():
                raise UserError(f"{printable(folder)} has no folder {side}/ beside the other side of the pairs")
    if not parts:
        raise UserError(
            f"{printable(source)} holds neither clean/ and noisy/ nor train/clean and train/noisy (validation/…, "
            "test/…); speech or noise alone goes by `prepare_data speech`"
        )
    return parts


def _require_folder(source: Path) -> None:
    if not source.is_dir():
        raise UserError(f"{printable(source)}: {'not a folder' if source.exists() else 'no such folder'}")


def _namesake(path: Path, other: Path) -> Problem:
    return Problem(path, f"has the name of {printable(other.name)} beside it, which is taken: remove one")


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _origin(source: Path, path: Path) -> str:
    return composed(path.relative_to(source).as_posix())
