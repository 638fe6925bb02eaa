"""Standard streams that survive write errors: a closed terminal, a broken pipe (`| head`), a full disk (`> log`).

Output that cannot be written is dropped, and the first error is stored. So output errors never end the work.
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
    """A file that accepts every write, even if its reader or its disk does not.

    Each write is tried, so output continues when a full disk has space again.

    Args:
        file: underlying file, open for writing; it stays open.
        lost: error that is known from the start, if nothing can be written.

    Attributes:
        lost: the first error of a write, or None.
    """

    def __init__(self, file: io.FileIO, lost: OSError | None = None):
        self._file = file
        self.lost = lost

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Write data, or drop the rest after an error; the returned size is that of `data` in any case."""
        left = memoryview(data).cast("B")
        size = left.nbytes
        try:
            while left:
                written = self._file.write(left)
                if written is None:
                    # The pipe or terminal is full, and another process has made it non-blocking.
                    select.select([], [self._file], [])
                else:
                    left = left[written:]
        except OSError as error:
            self.lost = self.lost or error
        return size

    def writable(self) -> bool:
        """Always true."""
        return True

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._file.isatty()


def open_missing() -> None:
    """Open closed standard streams on the null device; call this before any file is opened.

    Otherwise, the next file that is opened would get the descriptor of a standard stream and receive its output, and
    Python's own stream objects would be None.
    """
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            # The system assigns the lowest free descriptor, which is this one.
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    closed = OSError(errno.EBADF, "it was closed at the start")
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            raw: Any = Enduring(io.FileIO(number, "w", closefd=False), closed)
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace"))


def endure() -> None:
    """Make standard output and error accept every write; characters that they cannot encode are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        raw = _raw(stream)
        # Leave replaced streams alone, such as those of a test or a notebook.
        if isinstance(raw, io.FileIO) and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            lasting: Any = Enduring(raw)
            # The streams of `python -u` have no buffer.
            buffer = lasting if raw is stream.buffer else io.BufferedWriter(lasting)
            at_once = stream.line_buffering, stream.write_through
            setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", None, *at_once))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def loss(stream: Any) -> OSError | None:
    """Error because of which some output of a stream was lost; None if no loss is known."""
    raw = _raw(stream)
    return raw.lost if isinstance(raw, Enduring) else None


def _raw(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)
