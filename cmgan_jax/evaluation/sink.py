"""Where libsndfile writes: it tells of no error when it ends a file, and some of its formats end the process."""

import io
import os
from typing import BinaryIO, Self


class Sink(io.RawIOBase):
    """A file to be written that accepts everything, and raises its first error when it is closed.

    Args:
        file: open for reading and writing; it stays open.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._at = self._end = 0
        self._error: OSError | None = None

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Write; after an error, only count."""
        size = memoryview(data).nbytes
        if self._error is None:
            try:
                self._file.seek(self._at)
                self._file.write(data)
            except OSError as error:
                self._error = error
        self._at += size
        self._end = max(self._end, self._at)
        return size

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Read what has been written: some formats look back."""
        self._file.seek(self._at)
        size = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._at += size
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, also one that an error has kept from being written."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        if self._error is not None:
            raise self._error
        self._file.flush()
        os.fsync(self._file.fileno())
