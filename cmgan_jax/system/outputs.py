"""Output files: paths are checked before long work, and files are written completely or not at all."""

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
"""Errors by which a file system says that it does not support fsync."""


def refuse_file(option: str, path: Path | None) -> None:
    """Check before long work that an output file can be written.

    Raises:
        UserError: the path is a folder, or its parent folder does not exist or is not writable.
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
    """Check before long work that an output folder can be written or created; nothing is created yet.

    Raises:
        UserError: the path or one of its parents is a file, or the folder may not be written or created.
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
    """Check that the path of a checkpoint folder is valid text, which Orbax requires.

    Raises:
        UserError: the path has bytes that are not UTF-8, or that the environment's locale cannot represent.
    """
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{option} {printable(path)}: its name is no UTF-8, and checkpoints cannot be written there; choose "
            "another, or set LANG=C.UTF-8 if it looks right to you"
        ) from error


def refuse_same(options: Mapping[str, Path | None]) -> None:
    """Check that no two output files have the same path, since the second would replace the first.

    Args:
        options: path by flag; devices and pipes may occur twice.

    Raises:
        UserError: two paths are the same.
    """
    taken: dict[Path, str] = {}
    for option, path in options.items():
        if path is not None and not _is_special(path):
            other = taken.setdefault(_real(path), option)
            if other != option:
                raise UserError(f"{other} and {option} {printable(path)}: one file cannot hold both; name another")


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all; links are followed, and devices and pipes are written directly."""
    if _is_standard_output(path):
        sys.stdout.write(text)
        return
    path = _real(path)
    # The text may contain file names with bytes that are not UTF-8.
    content = text.encode("utf-8", errors="backslashreplace")
    if _is_special(path):
        path.write_bytes(content)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file, which replaces the file at the end; on error the file is unchanged."""
    temporary = path.with_name(path.name + ".part")
    try:
        yield temporary
        settle(temporary, path)
    finally:
        remove(temporary)


def settle(temporary: Path, path: Path) -> None:
    """Rename a complete file or folder so that after a power loss there is either the old content or the new.

    A rename alone may reach the disk before the content, and then the file would be empty or filled with zeros.

    Args:
        temporary: complete file or folder on the same file system.
        path: final path; an existing file is replaced, an existing folder must be empty.

    Raises:
        OSError: the content cannot be flushed to disk, or the rename fails.
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
    """Flush the content of a file, or the entries of a folder, to disk.

    Raises:
        OSError: the flush fails. File systems without fsync and unreadable folders are silently skipped.
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
    """Delete a temporary file if it exists, ignoring errors, since an earlier error explains the problem."""
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file completely or not at all; see `write_text`."""
    write_text(path, json.dumps(plain(content), indent=2) + "\n")


def plain(value: Any) -> Any:
    """Convert a value to what JSON can represent; non-finite numbers become null."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _is_standard_output(path: Path) -> bool:
    # This includes standard output that is redirected to a file, which must not be replaced meanwhile.
    with suppress(OSError, ValueError):
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    return False


def _real(path: Path) -> Path:
    # An anonymous pipe, as from `>(command)`, cannot be resolved.
    return path if _is_special(path) else Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
