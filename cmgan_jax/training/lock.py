"""A lock file that allows only one trainer at a time in a run folder, and names its holder.

The kernel releases the lock when its holder dies, for whatever reason. If a network file system does not share locks
between hosts, the file's age decides, because a living holder touches the file regularly.
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
"""Interval at which a holder touches its file."""
SILENT_SECONDS = 90.0
"""Age of the file from which a holder on another host counts as dead."""

_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Lock an existing run folder until the block ends.

    Raises:
        UserError: another process holds the lock; the message names its host and process id.
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
        # Delete the file before it is unlocked, so that no other process can take it over in between.
        path.unlink(missing_ok=True)
        os.close(file)


def refuse_held(folder: Path) -> None:
    """Check that a folder could be locked now, before long work.

    Raises:
        UserError: as in `hold`.
    """
    if (folder / NAME).exists():
        os.close(_locked(folder / NAME))


def _locked(path: Path) -> int:
    """Open and lock the file at a path; return its descriptor."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(file, path)
            # The previous holder may have deleted the file after it was opened here.
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
        # The lock was free, so a holder that is named on this host is dead.
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
    """Seconds since the file was touched, assuming that the clocks of both hosts agree."""
    return time.time() - os.fstat(file).st_mtime


def _touch(file: int, done: threading.Event) -> None:
    while not done.wait(TOUCH_SECONDS):
        os.utime(file)
