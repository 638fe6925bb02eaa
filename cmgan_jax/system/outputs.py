"""Files of results: refused before the work that fills them, written whole or not at all."""

import errno
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cmgan_jax.errors import UserError, printable

_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""How a file system says that it cannot be told to put something on its disk."""


def refuse_file(option: str, path: Path | None) -> None:
    """Refuse what cannot be written, before hours of work.

    Raises:
        UserError: a folder has the name, or its folder is not there or may not be written into.
    """
    if path is None:
        return
    place = f"{option} {printable(path)}"
    if path.is_dir():
        raise UserError(f"{place}: a folder has that name")
    real = _real(path)
    if not real.parent.is_dir():
        raise UserError(f"{place}: its folder does not exist")
    if not os.access(real if _is_special(real) else real.parent, os.W_OK):
        raise UserError(f"{place}: permission denied; choose a path that you may write")


def refuse_folder(option: str, path: Path | None) -> None:
    """Refuse what cannot be a folder of results, before hours of work; nothing is made yet.

    Raises:
        UserError: a file has the name, or is a part of the path, or the folder may not be written into or made.
    """
    if path is None:
        return
    there = _real(path)
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{option} {printable(path)}: {printable(there)} is no folder; name another")
    if not os.access(there, os.W_OK):
        raise UserError(f"{option} {printable(path)}: permission denied; choose a path that you may write")


def refuse_undecodable(option: str, path: Path) -> None:
    """Refuse a folder of checkpoints whose name is no text: the library that writes them takes none other.

    Raises:
        UserError: the path holds bytes that are no UTF-8, or that the language of the environment cannot express.
    """
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{option} {printable(path)}: its name is no UTF-8, and checkpoints cannot be written there; choose "
            "another, or set LANG=C.UTF-8 if it looks right to you"
        ) from error


def refuse_same(options: Mapping[str, Path | None]) -> None:
    """Refuse to write two files of results to one path, where the second would replace the first.

    Args:
        options: path by the flag that names it; devices and pipes may be named twice.

    Raises:
        UserError: two are the same.
    """
    taken: dict[Path, str] = {}
    for option, path in options.items():
        if path is not None and not _is_special(path):
            other = taken.setdefault(_real(path), option)
            if other != option:
                raise UserError(f"{other} and {option} {printable(path)}: one file cannot hold both; name another")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; into a device or a pipe directly, and where a link leads."""
    if _is_standard_output(path):
        sys.stdout.write(text)
        return
    path = _real(path)
    # Names of files may hold bytes that are no UTF-8.
    content = text.encode("utf-8", errors="backslashreplace")
    if _is_special(path):
        path.write_bytes(content)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A neighbour to write into, which takes the file's place at the end; after an error the file is as it was."""
    temporary = path.with_name(path.name + ".part")
    try:
        yield temporary
        settle(temporary, path)
    finally:
        remove(temporary)


def settle(temporary: Path, path: Path) -> None:
    """Give a complete file or folder its final name, so that a power loss leaves the old content or the new one.

    A rename alone may reach the disk before the content does: then a file of the right name is empty or holds zeros.

    Args:
        temporary: on the same file system; a folder with everything in it.
        path: replaced where it is a file; where it is a folder, it must be empty.

    Raises:
        OSError: the content cannot be written to the disk, or the name cannot be given.
    """
    for folder, _, names in os.walk(temporary):
        for inner in (*(Path(folder, name) for name in names), Path(folder)):
            if not inner.is_symlink():
                sync(inner)
    if temporary.is_file():
        sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on the disk.

    Raises:
        OSError: the disk refuses. A file system that knows of no such request, and a folder that may not be read, are
            left as they are.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(opened)


def remove(temporary: Path) -> None:
    """Delete a file that is no longer wanted, if it is there and can be: another error says why it is not."""
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file likewise."""
    write_text(path, json.dumps(plain(content), indent=2) + "\n")


def plain(value: Any) -> Any:
    """A value as JSON has it: what is not a finite number becomes null."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _is_standard_output(path: Path) -> bool:
    # Also where it has been redirected to a file, which must not be replaced under it.
    with suppress(OSError, ValueError):
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    return False


def _real(path: Path) -> Path:
    # A pipe that has no name of its own, as of `>(command)`, cannot be resolved.
    return path if _is_special(path) else Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
