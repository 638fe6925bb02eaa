"""One trainer at a time in a run folder: a locked file that names its holder.

The kernel gives the lock back when its holder dies, however that happens. Where a network's file system does not carry
locks from host to host, the file's age tells: a living holder touches it.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cmgan_jax.errors import UserError

NAME = "run.lock"
TOUCH_SECONDS = 15.0
"""How often a holder touches its file."""
SILENT_SECONDS = 90.0
"""A holder on another host whose file is older than this counts as dead."""

_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a run folder, which exists, until the block ends.

    Raises:
        UserError: another process holds it; the message names its host and number.
    """
    path = folder / NAME
    file = _locked(path)
    done = threading.Event()
    toucher = threading.Thread(target=_touch, args=(file, done), name="lock", daemon=True)
    try:
        holder = {"host": socket.gethostname(), "pid": os.getpid()}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode(), 0)
        toucher.start()
        yield
    finally:
        done.set()
        if toucher.is_alive():
            toucher.join()
        # While it is still locked: nobody can have taken it over in between.
        path.unlink(missing_ok=True)
        os.close(file)


def refuse_held(folder: Path) -> None:
    """Check whether a folder could be held now, before long work.

    Raises:
        UserError: as in `hold`.
    """
    if (folder / NAME).exists():
        os.close(_locked(folder / NAME))


def _locked(path: Path) -> int:
    """An open file, locked, that is the one at the path."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(file, path)
            # Its holder may have deleted it between the opening and the locking.
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, path: Path) -> None:
    holder, here = _holder(file), socket.gethostname()
    age = _age(file)
    remedy = "wait for it, or choose another --out"
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A lock was to be had: whoever is named on this host is dead.
        alive = holder.get("host", here) != here and age < SILENT_SECONDS
    except OSError as error:
        if error.errno not in (*_HELD, *_NO_LOCKS):
            raise
        if error.errno in _HELD:
            raise UserError(f"{_in_use(path, holder)}; {remedy}") from error
        alive = bool(holder) and age < SILENT_SECONDS
    if alive:
        raise UserError(
            f"{_in_use(path, holder)}, as of {max(age, 0):.0f} s ago; {remedy}. If it is dead, the folder is free "
            f"{SILENT_SECONDS:.0f} s after it was last seen, or when {path} is deleted"
        )


def _in_use(path: Path, holder: dict[str, Any]) -> str:
    return f"{path.parent} is in use: process {holder.get('pid', '?')} on host {holder.get('host', '?')} trains there"


def _holder(file: int) -> dict[str, Any]:
    try:
        named = json.loads(os.pread(file, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return named if isinstance(named, dict) else {}


def _age(file: int) -> float:
    """Seconds since the file was touched; both hosts are taken to have the right time."""
    return time.time() - os.fstat(file).st_mtime


def _touch(file: int, done: threading.Event) -> None:
    while not done.wait(TOUCH_SECONDS):
        os.utime(file)
