"""Search for audio files below a user's folder, which may hold links, loops and pipes; and the naming of files.

This module also has the only table of the suffixes of audio files that folders are searched for.

libsndfile identifies a file by its content, so a suffix only decides whether the file is opened at all. MATLAB files
are not in the table: libsndfile reads some of them, but most do not hold audio.
"""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cmgan_jax.errors import UserError, printable

LOSSLESS = (
    ".wav", ".wave", ".bwf", ".flac", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph",
    ".nist", ".wv1", ".wv2", ".voc", ".ircam", ".sf", ".avr", ".paf", ".pvf", ".sds", ".sd2", ".iff", ".svx",
    ".8svx", ".htk",
)  # fmt: skip
"""Lossless formats (a few can also hold telephony codecs)."""
LOSSY = (".ogg", ".oga", ".ogx", ".opus", ".mp3", ".mp2", ".mp1", ".mpga", ".wve", ".xi", ".g722")
"""Lossy formats."""
RECORDINGS = (*LOSSLESS, *LOSSY)
"""Suffixes of the files that can be read, i.e. enhanced, scored and trained on."""
FOREIGN = (
    # Compressed audio.
    ".m4a", ".m4b", ".m4r", ".mp4a", ".aac", ".adts", ".wma", ".amr", ".awb", ".3ga", ".ac3", ".eac3", ".dts", ".ape",
    ".wv", ".tta", ".tak", ".shn", ".ofr", ".mpc", ".mka", ".weba", ".spx", ".ra", ".dsf", ".dff", ".dss", ".ds2",
    ".qcp", ".aa", ".aax", ".alac",
    # Videos, which have an audio track.
    ".mp4", ".m4v", ".webm", ".mkv", ".mov", ".qt", ".avi", ".wmv", ".asf", ".flv", ".f4v", ".f4a", ".ogv", ".ogm",
    ".mpg", ".mpeg", ".vob", ".mts", ".m2ts", ".3gp", ".3g2", ".rm", ".rmvb", ".mxf",
    # Files without a header that tells how to read them.
    ".raw", ".pcm", ".vox",
)  # fmt: skip
"""Suffixes of recordings that cannot be read; such files are named in messages, never silently left out."""
NAMED = (*RECORDINGS, *FOREIGN)
"""Suffixes that a search of a folder collects."""


def by_quality(paths: list[Path]) -> list[Path]:
    """Sort files of one name by preference: lossless, lossy, not readable; within each by path."""
    return sorted(paths, key=lambda path: (_rank(path), path))


def lossless(paths: list[Path]) -> Iterator[Path]:
    """Yield the files of lossless formats."""
    return (path for path in paths if _rank(path) == 0)


def _rank(path: Path) -> int:
    suffix = path.suffix.lower()
    return 0 if suffix in LOSSLESS else 1 if suffix in LOSSY else 2


_MOST_NAMES = 1000
_SHOWN = 8


class Unreadable(NamedTuple):
    """A folder that cannot be listed, or a broken link that may have led to a folder."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


@dataclass(frozen=True)
class FolderListing:
    """The files below a folder, none of which has been opened.

    Attributes:
        files: everything with one of the suffixes that is not a folder, sorted; broken links and pipes are included, so
            that opening them reports the reason.
        unreadable: places that may hold more files but cannot be read.
        passed_over: number of files with other suffixes, by lower-case suffix, and of hidden files.
    """

    files: tuple[Path, ...]
    unreadable: tuple[Unreadable, ...]
    passed_over: Mapping[str, int]

    def passed_over_text(self) -> str:
        """Describe the ignored files for the user; empty where there are none."""
        return count_text(self.passed_over)


def count_text(passed_over: Mapping[str, int]) -> str:
    """Format numbers by suffix, such as ``12 .txt, 3 .json, 1 without a suffix``."""
    ordered = sorted(passed_over.items(), key=lambda item: (-item[1], item[0] or "~"))
    words = [f"{count} {printable(suffix) or 'without a suffix'}" for suffix, count in ordered[:_SHOWN]]
    rest = sum(count for _, count in ordered[_SHOWN:])
    return ", ".join([*words, f"{rest} others"] if rest else words)


def walk(folder: Path, suffixes: Collection[str] = NAMED) -> FolderListing:
    """Find files by suffix without opening them.

    Linked folders are followed under each of their names, except a link to a folder that contains it. Hidden files and
    folders are left out.

    Args:
        folder: the folder to search.
        suffixes: lower-case; names match in any case.

    Raises:
        UserError: the folder itself cannot be read, or one folder has more than a thousand names through links.
    """
    files: list[Path] = []
    unreadable: list[Unreadable] = []
    passed_over: Counter[str] = Counter()
    names: Counter[object] = Counter()
    waiting: list[tuple[Path, frozenset[object]]] = [(folder, frozenset())]
    while waiting:
        here, above = waiting.pop()
        try:
            identity = _identity(here)
            with os.scandir(here) as listed:
                entries = list(listed)
        except OSError as error:
            problem = Unreadable(here, error.strerror or str(error))
            if here == folder:
                raise UserError(str(problem)) from error
            unreadable.append(problem)
            continue
        if identity in above:
            continue
        names[identity] += 1
        if names[identity] > _MOST_NAMES:
            raise UserError(
                f"{printable(here)}: links give this folder more than {_MOST_NAMES} names; name the folders to be read"
            )
        inside = above | {identity}
        for entry in entries:
            path = here / entry.name
            suffix = path.suffix.lower()
            if entry.name.startswith("."):
                # The `._` files of macOS are not counted.
                passed_over["hidden"] += suffix in suffixes and not entry.name.startswith("._")
                continue
            try:
                is_folder = _is_folder(entry)
            except OSError as error:
                is_folder = False
                if suffix not in suffixes:
                    reason = "the link leads nowhere" if isinstance(error, FileNotFoundError) else error.strerror
                    unreadable.append(Unreadable(path, reason or str(error)))
                    continue
            if is_folder:
                waiting.append((path, inside))
            elif suffix in suffixes:
                files.append(path)
            else:
                passed_over[suffix] += 1
    return FolderListing(tuple(sorted(files)), tuple(sorted(unreadable)), +passed_over)


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files of `walk`; every folder has to be readable.

    Raises:
        UserError: see `walk`; also where something cannot be read, all of which is named.
    """
    found = walk(folder, suffixes)
    refuse_unreadable(found)
    return list(found.files)


def refuse_unreadable(found: FolderListing) -> None:
    """Raise an error if parts of a folder could not be read.

    Raises:
        UserError: there are such parts; all of them are named.
    """
    if found.unreadable:
        raise UserError("\n".join(map(str, found.unreadable)))


def name_below(folder: Path, path: Path) -> str:
    """Return a file's name: its path below a folder, with forward slashes, without the suffix, in Unicode's NFC.

    NFC is needed because an accented letter can be one character or two, and operating systems differ in this.
    """
    return composed(path.relative_to(folder).with_suffix("").as_posix())


def composed(name: str) -> str:
    """Convert a name to Unicode's NFC, in which names are compared."""
    return unicodedata.normalize("NFC", name)


def by_name(folder: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    """Group files by name (`name_below`), in order; under each name the lossless ones come first."""
    names: dict[str, list[Path]] = {}
    for path in files:
        names.setdefault(name_below(folder, path), []).append(path)
    return {name: by_quality(names[name]) for name in sorted(names)}


def _identity(folder: Path) -> object:
    status = os.stat(folder)
    # Some network file systems have no inode numbers.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether the entry is a folder or a link to one.

    Raises:
        OSError: it is a broken link.
    """
    return stat.S_ISDIR(entry.stat().st_mode) if entry.is_symlink() else entry.is_dir()
