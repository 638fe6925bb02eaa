"""Files that others may have made: read only if they are regular ones, and only up to a limit."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it; a device or a pipe, which may have no end or never begin, is refused without waiting.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(opened, "rb")


def read_limited(path: Path, most: int) -> bytes:
    """Read a whole regular file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: as in `open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB, which no such file is", str(path))
    return content
