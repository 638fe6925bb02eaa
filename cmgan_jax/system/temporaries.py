"""Temporary files and folders whose names identify their owner, so that leftovers of killed processes can be deleted.

A name has the process id and a code for the scope in which that id is valid: host, boot and PID namespace. A process
that finds its own scope in a name can check whether the owner is alive. Leftovers from other hosts or containers, or
from before a reboot, are not touched.
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
    """Hidden temporary path beside a file, unique to this thread; leftovers of dead processes there are deleted.

    The temporary file is meant to replace the file when it is complete.
    """
    _sweep_once(str(path.parent), os.getpid())
    return path.with_name(f".{_owner()}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file name was made by `beside` in any process; it may have further suffixes before the last one."""
    return _NAME.fullmatch(name) is not None


@contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """Create a folder in `parent`, or in the system's temporary folder, that is deleted at the end of the block.

    Leftovers of dead processes there are deleted, as by `beside`.
    """
    parent = parent or Path(tempfile.gettempdir())
    _sweep_once(str(parent), os.getpid())
    with tempfile.TemporaryDirectory(prefix=f".{_owner()}", suffix=".tmp", dir=parent) as made:
        yield Path(made)


def sweep(place: Path) -> None:
    """Delete the temporary files and folders that dead processes left in a folder."""
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
    """Code of eight hexadecimal digits for the scope in which process ids are valid."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # These files exist on Linux only.
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
