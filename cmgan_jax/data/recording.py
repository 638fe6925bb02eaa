"""Reading of an open recording: all streams of a file as one, provided that they have the same format.

It also has the errors of audio files, in words for the user.
"""

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import numpy as np
import soundfile

from cmgan_jax.data import containers
from cmgan_jax.data.containers.parts import CONVERT, COPY_AGAIN, ContainerError, Part, Reader, Spliced
from cmgan_jax.errors import UserError, printable
from cmgan_jax.system.signals import held


class AudioError(UserError):
    """A file that cannot be read or written as audio.

    Attributes:
        path: the file.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{printable(path)}: {reason}")
        self.path = path
        self.reason = reason


def system_error(path: Path, error: OSError) -> AudioError:
    """Convert an error of the file system to an error of this file."""
    return AudioError(path, error.strerror or str(error))


def library_reason(error: soundfile.SoundFileError) -> str:
    """Return libsndfile's error message without the file's name."""
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.removeprefix("Error : ").rstrip(".")


RATES = (1_000, 768_000)
"""Lowest and highest sample rate in Hz accepted: others come from a damaged header, and would cost hours or memory."""
# libsndfile reports this many frames where a stream's header does not tell the number.
_UNKNOWN_FRAMES = 2**62
# libsndfile's messages on truncated files, for formats whose structure is not parsed here.
_CUT_SHORT = re.compile(r"^\s*(?:data|SSND|BODY|Data \w+|riff|Riff size)\s*:? (\d+) \(?should be (\d+)", re.MULTILINE)
_STREAMED_BYTES = 0x7FFF_0000
_LEANING = ("MP3", "OGG")
"""Formats whose frames depend on earlier ones: through bits of up to 15 frames in MP3, and overlapping windows."""
_PASSED = 20 * 1152
"""Samples of such a format decoded before a seek target, so that the result is the same as without a seek."""
_BLOCK = 2**16
"""Samples decoded at a time on the way to a seek target."""
_REMEMBERED_BYTES = 2**20
"""Files of at least this size are parsed only once, not at every opening."""


class _Stream(soundfile.SoundFile):
    """A stream read without seeks: soundfile would seek after every block, which alters what MP3 and Vorbis give."""

    def seekable(self) -> bool:
        """Whether soundfile may seek by itself."""
        return False

    @property
    def can_seek(self) -> bool:
        """Whether this format supports seeking."""
        return super().seekable()


class Recording:
    """One or more streams of the same rate and channel count, read as one.

    Attributes:
        frames: samples of each channel, of all streams together.
        samplerate: samples per second.
        channels: number of channels.
        format: libsndfile's name of the first stream's format.
        subtype: libsndfile's name of its sample format.
        endian: libsndfile's name of its byte order.

    Args:
        path: the path that errors name.
        file: the whole file, seekable; it is closed with the recording.

    Raises:
        AudioError: the file is not audio, truncated, damaged, or has several sample rates or channel counts.
    """

    def __init__(self, path: Path, file: BinaryIO):
        self._path, self._file = path, file
        self._stream: _Stream | None = None
        self._source: Spliced | None = None
        try:
            if file.seek(0, os.SEEK_END) == 0:
                raise AudioError(path, "empty file (0 bytes)")
            self._parts = _parts(file)
            self._lengths = [self._open(index) for index in range(len(self._parts))]
            if len(self._parts) > 1:
                self._open(0)
        except ContainerError as error:
            self.close()
            raise AudioError(path, str(error)) from error
        except OSError as error:
            self.close()
            raise system_error(path, error) from error
        except BaseException:
            self.close()
            raise
        self.frames = sum(self._lengths)

    def copy_metadata(self) -> dict[str, str]:
        """Title, artist and similar tags of the first stream."""
        return self._tags

    def seek(self, start: int) -> None:
        """Seek to a sample position.

        Raises:
            AudioError: the file is damaged.
        """
        index = 0
        while index < len(self._parts) - 1 and start >= self._lengths[index]:
            start -= self._lengths[index]
            index += 1
        if index != self._index:
            self._open(index)
        if start == self._at:  # A seek in a FLAC file searches it, even to its current position.
            return
        # After a seek, the first decoded samples are wrong where frames depend on earlier ones.
        before = start if self.format not in _LEANING else max(0, min(start, self._parts[index].sure) - _PASSED)
        assert self._stream is not None
        if self._stream.can_seek and not before <= self._at <= start:
            self._call(lambda stream: stream.seek(before))
            self._at = before
        elif start < self._at:
            self._open(index)
        while self._at < start and len(self._decode(min(start - self._at, _BLOCK))):
            pass

    def read(self, frames: int) -> np.ndarray:
        """Decode from the current position.

        Args:
            frames: maximum number of samples per channel to decode.

        Returns:
            float32 [S, channels]; S is 0 only at the end, or if the file is damaged.

        Raises:
            AudioError: the file is damaged, or cannot be read.
        """
        while self._at == self._lengths[self._index] and self._index < len(self._parts) - 1:
            self._open(self._index + 1)
        return self._decode(frames)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, index: int) -> int:
        """Open one stream instead of the current one, and return its length."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        part = self._parts[index]
        self._index, self._at = index, 0
        descriptor = _descriptor(self._file) if part.as_it_is else None
        self._source = Spliced(self._file, part.pieces) if descriptor is None else None
        try:
            with self._held():
                # Not opened by name, because the name may contain bytes that are not valid text.
                stream = _Stream(cast(Any, self._source if descriptor is None else descriptor))
        except soundfile.SoundFileError as error:
            reason = library_reason(error)
            remedy = "" if reason == "Format not recognised" else f"; if others can play it, {CONVERT}"
            raise self._source_error() or AudioError(self._path, f"unreadable: {reason}{remedy}") from error
        self._stream = stream
        if problem := _implausible(stream, part):
            raise AudioError(self._path, problem)
        if index == 0:
            self.samplerate, self.channels = cast(int, stream.samplerate), cast(int, stream.channels)
            self.format, self.subtype, self.endian = stream.format, stream.subtype, stream.endian
            self._tags: dict[str, str] = stream.copy_metadata()
        elif (self.samplerate, self.channels) != (stream.samplerate, stream.channels):
            raise AudioError(
                self._path,
                f"its first recording has {self.samplerate} Hz and {self.channels} channels, another has "
                f"{stream.samplerate} Hz and {stream.channels}: {CONVERT}",
            )
        return stream.frames

    def _call(self, what: Callable[[_Stream], Any]) -> Any:
        assert self._stream is not None
        try:
            with self._held():
                found = what(self._stream)
        except soundfile.SoundFileError as error:
            raise self._source_error() or AudioError(self._path, f"damaged: {library_reason(error)}") from error
        if error := self._source_error():
            raise error
        return found

    def _decode(self, frames: int) -> np.ndarray:
        block = self._call(lambda stream: stream.read(frames, dtype="float32", always_2d=True))
        self._at += len(block)
        return block

    def _held(self) -> AbstractContextManager[None]:
        """Delay Ctrl-C during a read that goes through Python, as libsndfile's callbacks would lose it."""
        return nullcontext() if self._source is None else held()

    def _source_error(self) -> AudioError | None:
        error = self._source.error if self._source is not None else None
        return system_error(self._path, error) if error else None


def _implausible(stream: _Stream, part: Part) -> str | None:
    """Say why libsndfile's information on a stream is wrong; None where it is plausible."""
    if stream.frames >= _UNKNOWN_FRAMES:
        return f"its header does not state its length: {CONVERT}"
    if not RATES[0] <= stream.samplerate <= RATES[1]:
        return f"sample rate {stream.samplerate} Hz, beyond {RATES[0]} to {RATES[1]} Hz: its header is damaged"
    if stream.frames < part.least:
        return f"{part.least} samples are there, of which libsndfile sees {stream.frames}: {CONVERT}"
    # libsndfile repairs the header of a truncated file, and mentions it only here.
    cut = None if part.is_known else _CUT_SHORT.search(stream.extra_info)
    if cut and int(cut[2]) < int(cut[1]) < _STREAMED_BYTES:
        return f"cut short: {cut[2]} of {cut[1]} bytes of audio are there; {COPY_AGAIN}"
    return None


@dataclass(frozen=True)
class _Looked:
    """An open file; two of the same file identity are equal, so that a parsed structure can be reused."""

    identity: tuple[int, ...]
    file: BinaryIO = field(compare=False)


def _parts(file: BinaryIO) -> tuple[Part, ...]:
    try:
        found = os.fstat(file.fileno())
    except OSError:  # Not a file of its own, but within an archive or in memory.
        return containers.parts(Reader(file))
    if found.st_size < _REMEMBERED_BYTES:
        return containers.parts(Reader(file))
    return _remembered_parts(_Looked((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns), file))


@lru_cache(maxsize=1024)
def _remembered_parts(looked: _Looked) -> tuple[Part, ...]:
    return containers.parts(Reader(looked.file))


def _descriptor(file: BinaryIO) -> int | None:
    """Return a new descriptor at the file's beginning; None if the operating system has no such file."""
    try:
        descriptor = os.dup(file.fileno())
    except OSError:
        return None
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
