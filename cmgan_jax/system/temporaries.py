"""Names for what is not finished, which tell whose it is, so that what a killed process left is found and deleted.

A name holds the process, and a word for the place where that number means this process: a start of the system, and
the numbers of a container. Whoever finds its own place in a name knows whether that process lives; what another host
or container left, or what was left before the system was started again, is not touched.
"""

import functools
import hashlib
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cmgan_jax.system.outputs import remove

_NAME = re.compile(r"\.(?P<process>\d+)-\d+-(?P<place>[0-9a-f]{8})[\w.]*\.tmp")


def beside(path: Path) -> Path:
    """A hidden name beside a file, this thread's alone; what dead processes left in the folder is deleted.

    What is written there takes the file's place when it is complete.
    """
    _sweep_once(str(path.parent), os.getpid())
    return path.with_name(f".{_owner()}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file's name is of those that `beside` gives, of any process; suffixes may stand before the last one."""
    return _NAME.fullmatch(name) is not None


@contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder that goes with the block, in `parent` or where the system keeps such; likewise."""
    parent = parent or Path(tempfile.gettempdir())
    _sweep_once(str(parent), os.getpid())
    with tempfile.TemporaryDirectory(prefix=f".{_owner()}", suffix=".tmp", dir=parent) as made:
        yield Path(made)


def sweep(place: Path) -> None:
    """Delete what processes that have died left in a folder under such a name."""
    with suppress(OSError):
        for name in os.listdir(place):
            match = _NAME.fullmatch(name)
            if match and match["place"] == _place() and not _lives(int(match["process"])):
                path = place / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    remove(path)


@functools.lru_cache(maxsize=1024)
def _sweep_once(place: str, process: int) -> None:
    sweep(Path(place))


def _owner() -> str:
    return f"{os.getpid()}-{threading.get_ident()}-{_place()}"


@functools.cache
def _place() -> str:
    """Where the numbers of processes are those that this process sees: eight hexadecimal digits."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # Of Linux.
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
