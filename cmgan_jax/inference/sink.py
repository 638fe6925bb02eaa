"""Recordings written by libsndfile, whose errors when it ends a file, and whose callbacks, tell nobody of anything."""

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
"""Samples of each channel that are written at a time: libvorbis puts them on the stack, which two million exhaust."""


class RecordingWriter:
    """A recording that is being written; when it is left, everything is on the disk, or the first error is raised.

    Args:
        path: the file; what it holds is replaced.
        kind: sample rate, channels, sub-type, byte order and format, as soundfile has them.
        tags: title, artist and the like, of which those are kept that the format can hold.
        beside: what is carried over beside the audio; it may have the tags, and then `tags` is not heeded.

    Raises:
        OSError: the file cannot be opened, or, when it is left, something could not be written.
        SoundFileError: libsndfile refuses.
    """

    def __init__(
        self,
        path: Path,
        kind: tuple[int, int, str, str, str],
        tags: dict[str, str],
        beside: Carried | None = None,
    ):
        self._beside, self._format = beside or Carried(), kind[4]
        # Not by its name, which may hold bytes that are no text.
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
        """Add float32 [S, channels]."""
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
    """A file that accepts everything and remembers its first error: libsndfile would go on, or end the process.

    Args:
        file: open for reading and writing; it stays open.
        place: where something is inserted, of which libsndfile does not know.
        inserted: that.
    """

    def __init__(self, file: BinaryIO, place: int = 0, inserted: bytes = b""):
        self._file, self._place, self._shift = file, place, len(inserted)
        self._at = self._end = 0
        self._error: OSError | None = None
        if inserted:
            self._put(place, inserted)

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Write; after an error, only count."""
        view = memoryview(data).cast("B")
        before = max(0, min(len(view), self._place - self._at))
        self._put(self._at, view[:before])
        self._put(self._at + before + self._shift, view[before:])
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Read what has been written: some formats look back."""
        view = memoryview(buffer).cast("B")
        before = self._at < self._place
        self._file.seek(self._at + (0 if before else self._shift))
        size = cast(Any, self._file).readinto(view[: self._place - self._at] if before else view)
        self._at += size
        return size

    def _put(self, at: int, content: "bytes | memoryview") -> None:
        """Write at a place of the file; after an error, nothing."""
        if not len(content) or self._error is not None:
            return
        try:
            self._file.seek(at)
            self._file.write(content)
        except OSError as error:
            self._error = error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, also one that an error has kept from being written."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def settle(self) -> None:
        """See whether everything was accepted.

        Raises:
            OSError: the first error of all.
        """
        if self._error is not None:
            raise self._error
