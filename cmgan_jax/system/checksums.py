"""Sums over a folder's files, written when all of them are: a folder whose sums agree is whole.

The folder may be from anybody: only regular files within it are read, and none that is beyond any checkpoint's size.
"""

import hashlib
import json
import os
import stat
from io import BufferedReader
from pathlib import Path

from cmgan_jax.system.inputs import open_regular, read_limited

NAME = "checksums.json"
LARGEST_LIST = 16 << 20
"""Bytes that the list of sums may have."""
LARGEST_FILE = 16 << 30
"""Bytes that a file may have: a file full of holes may claim more than can be read in a lifetime."""


def write(folder: Path) -> None:
    """Write size and SHA-256 of every file below a folder into it, as the last of its files."""
    files = {str(path.relative_to(folder)): _describe(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / NAME).write_text(json.dumps(files, indent=1))


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that `write` completed: the first file that is missing or differs; None: nothing."""
    try:
        expected = json.loads(read_limited(folder / NAME, LARGEST_LIST))
        sizes = {name: (size, sha256) for name, (size, sha256) in expected.items()}
    except FileNotFoundError:
        return f"{NAME} is missing: it was not written to its end"
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        return f"{NAME} cannot be read ({error})"
    if not sizes:
        return f"{NAME} names no file"
    # Where no link is, a name without `..` stays inside.
    if strange := _neither_file_nor_folder(folder):
        return f"{strange} is a link, a pipe or a device, and a checkpoint has none; copy the files that it means"
    for name, (size, sha256) in sizes.items():
        if Path(name).is_absolute() or os.pardir in Path(name).parts:
            return f"{NAME} names {name!r}, which is not inside"
        try:
            with open_regular(folder / name) as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    return f"{name} has {found} bytes of {size}"
                if found > LARGEST_FILE:
                    return f"{name} has {found} bytes, more than any file of a checkpoint"
                if _digest(file) != sha256:
                    return f"{name} has other content than was written"
        except OSError as error:
            return f"{name}: {error.strerror}"
        except ValueError as error:
            return f"{NAME} names {name!r}: {error}"
    return None


def _describe(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, _digest(file)


def _digest(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _neither_file_nor_folder(folder: Path) -> str | None:
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            kind = path.lstat().st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                return str(path.relative_to(folder))
    return None
