"""Standard streams that outlive whoever reads them: a closed terminal, `| head`, a full disk under `> log`.

What cannot be written is dropped, and the first reason is kept for whoever asks. Work is never ended by its output.
"""

import errno
import io
import os
import select
import sys
from typing import Any

STANDARD = (0, 1, 2)
"""File descriptors of standard input, output and error."""


class Enduring(io.RawIOBase):
    """A file that accepts everything that is written, also what its reader or its disk does not take.

    Each write is tried: a disk that has room again gets what is written from then on.

    Args:
        file: open for writing; it stays open.
        lost: why nothing can arrive, where that is known from the start.

    Attributes:
        lost: the first error of a write, or None.
    """

    def __init__(self, file: io.FileIO, lost: OSError | None = None):
        self._file = file
        self.lost = lost

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Write all of it, or drop the rest after an error; the number of bytes is that of `data` in any case."""
        left = memoryview(data).cast("B")
        size = left.nbytes
        try:
            while left:
                written = self._file.write(left)
                if written is None:
                    # Another process has made the pipe or terminal non-blocking, and it is full.
                    select.select([], [self._file], [])
                else:
                    left = left[written:]
        except OSError as error:
            self.lost = self.lost or error
        return size

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._file.isatty()


def open_missing() -> None:
    """Open what is closed of the three standard streams on the null device; call it before anything opens a file.

    Otherwise the next file that is opened gets the number of a standard stream, and is written into by whatever
    prints; and Python's own streams are None.
    """
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken: this one.
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    closed = OSError(errno.EBADF, "it was closed at the start")
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            raw: Any = Enduring(io.FileIO(number, "w", closefd=False), closed)
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace"))


def endure() -> None:
    """Have standard output and error accept everything from now on; characters that they lack are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        raw = _raw(stream)
        # Not what has been put in their place: a test's, a notebook's.
        if isinstance(raw, io.FileIO) and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            lasting: Any = Enduring(raw)
            # What `python -u` gives has no buffer.
            buffer = lasting if raw is stream.buffer else io.BufferedWriter(lasting)
            at_once = stream.line_buffering, stream.write_through
            setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", None, *at_once))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def loss(stream: Any) -> OSError | None:
    """Why something of what was written to a stream did not arrive; None: all did, as far as is known."""
    raw = _raw(stream)
    return raw.lost if isinstance(raw, Enduring) else None


def _raw(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)
