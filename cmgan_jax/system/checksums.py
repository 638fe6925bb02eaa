"""Checksums of a folder's files, written after all other files: a folder with matching checksums is complete.

The folder may come from an untrusted source, so only regular files inside it are read, up to a maximum size.
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
"""Maximum size in bytes of the list of checksums."""
LARGEST_FILE = 16 << 30
"""Maximum size in bytes of a file, since a sparse file may claim more than can ever be read."""


def write(folder: Path) -> None:
    """Write the size and SHA-256 of every file below a folder to a file in it, as the last file."""
    files = {str(path.relative_to(folder)): _describe(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / NAME).write_text(json.dumps(files, indent=1))


def damage(folder: Path) -> str | None:
    """Describe the first missing or differing file of a folder that `write` completed; None if it is undamaged."""
    try:
        expected = json.loads(read_limited(folder / NAME, LARGEST_LIST))
        sizes = {name: (size, sha256) for name, (size, sha256) in expected.items()}
    except FileNotFoundError:
        return f"{NAME} is missing: it was not written to its end"
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        return f"{NAME} cannot be read ({error})"
    if not sizes:
        return f"{NAME} names no file"
    # Without links, a name without `..` stays inside the folder.
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
