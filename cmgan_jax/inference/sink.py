"""Writing of recordings with libsndfile, which itself loses errors that occur in callbacks or when it closes a file."""

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import numpy as np
import soundfile

from cmgan_jax.inference.metadata import Carried, complete
from cmgan_jax.system.signals import held

MOST = 65_536
"""Samples per channel that are written at a time: libvorbis puts them on the stack, which two million would exhaust."""


class RecordingWriter:
    """Context manager that writes a recording; on exit everything is on the disk, or the first error is raised.

    Args:
        path: the file; existing content is replaced.
        kind: sample rate, channels, sub-type, byte order and format, as soundfile takes them.
        tags: title, artist and so on; those that the format supports are written.
        beside: metadata to carry over; if it includes tags, `tags` is ignored.

    Raises:
        OSError: the file cannot be opened, or (on exit) something could not be written.
        SoundFileError: libsndfile reports an error.
    """

    def __init__(
        self,
        path: Path,
        kind: tuple[int, int, str, str, str],
        tags: dict[str, str],
        beside: Carried | None = None,
    ):
        self._beside, self._format = beside or Carried(), kind[4]
        # Pass an open file instead of a name, which may hold bytes that are not text.
        self._file = open(path, "w+b")  # noqa: SIM115
        self._sink = Sink(self._file, self._beside.place, self._beside.inserted)
        try:
            with held():
                self._target = soundfile.SoundFile(cast(BinaryIO, self._sink), "w", *kind)
        except BaseException:
            self._file.close()
            raise
        for name, text in ({} if self._beside.replaces_tags else tags).items():
            with suppress(soundfile.SoundFileError), held():
                setattr(self._target, name, text)

    def write(self, samples: np.ndarray) -> None:
        """Append samples, float32[S, channels]."""
        for start in range(0, len(samples), MOST):
            with held():
                self._target.write(samples[start : start + MOST])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            with held():
                self._target.close()
            if kind is None:
                self._sink.settle()
                complete(self._file, self._beside, self._format)
                self._file.flush()
                os.fsync(self._file.fileno())


class Sink(io.RawIOBase):
    """A file that accepts every write and stores the first error, which libsndfile would ignore or die from.

    Args:
        file: underlying file, open for reading and writing; it stays open.
        place: offset at which bytes are inserted without libsndfile's knowledge.
        inserted: the inserted bytes.
    """

    def __init__(self, file: BinaryIO, place: int = 0, inserted: bytes = b""):
        self._file, self._place, self._shift = file, place, len(inserted)
        self._at = self._end = 0
        self._error: OSError | None = None
        if inserted:
            self._put(place, inserted)

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Write data; after an error, only advance the position."""
        view = memoryview(data).cast("B")
        before = max(0, min(len(view), self._place - self._at))
        self._put(self._at, view[:before])
        self._put(self._at + before + self._shift, view[before:])
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Read back written data, as some formats require."""
        view = memoryview(buffer).cast("B")
        before = self._at < self._place
        self._file.seek(self._at + (0 if before else self._shift))
        size = cast(Any, self._file).readinto(view[: self._place - self._at] if before else view)
        self._at += size
        return size

    def _put(self, at: int, content: "bytes | memoryview") -> None:
        """Write at an offset of the underlying file; after an error, do nothing."""
        if not len(content) or self._error is not None:
            return
        try:
            self._file.seek(at)
            self._file.write(content)
        except OSError as error:
            self._error = error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, which may lie where an error has prevented writing."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """The current position."""
        return self._at

    def settle(self) -> None:
        """Raise the stored error, if there is one.

        Raises:
            OSError: the first error of a write.
        """
        if self._error is not None:
            raise self._error
