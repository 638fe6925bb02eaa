"""The parts of a recording within a file, and the corrected file that libsndfile is given."""

import io
import os
from dataclasses import dataclass
from typing import BinaryIO

CONVERT = "write it anew, e.g. ffmpeg -i IN OUT.wav"
"""The remedy for a defective header or container."""
COPY_AGAIN = f"copy it again, or, if this is all there is, {CONVERT}"
"""The remedy for a truncated file."""
_BLOCK = 2**20


class ContainerError(Exception):
    """The recordings of a file cannot all be read; the message has the reason and the remedy."""


@dataclass(frozen=True)
class Span:
    """A byte range of a file, from `start` up to `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Part:
    """One recording within a file.

    Attributes:
        pieces: what libsndfile is given instead of the file: spans of the file, and corrected header bytes.
        end: where the recording ends in the file.
        least: minimum number of samples per channel that libsndfile must find in it.
        sure: number of samples per channel up to which libsndfile seeks correctly.
        as_it_is: whether libsndfile may be given the whole file instead, if there is no other part.
        is_known: whether its structure was parsed here; otherwise libsndfile has to judge it.
    """

    pieces: tuple[bytes | Span, ...]
    end: int
    least: int = 0
    sure: int = 2**62
    as_it_is: bool = False
    is_known: bool = True


class Reader:
    """Random access to a file that is parsed mostly from beginning to end, with occasional reads ahead.

    Args:
        file: a seekable file.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._block, self._from = b"", 0

    def at(self, start: int, size: int) -> bytes:
        """Read bytes from a position; fewer where the file ends early."""
        offset = start - self._from
        if not 0 <= offset <= len(self._block) - size:
            self._file.seek(start)
            self._block, self._from, offset = self._file.read(max(size, _BLOCK)), start, 0
        return self._block[offset : offset + size]

    def number(self, start: int, size: int, order: str = "little") -> int:
        """Read an unsigned integer; bytes missing at the end of the file count as zero."""
        return int.from_bytes(self.at(start, size).ljust(size, b"\0"), "big" if order == "big" else "little")


class Spliced(io.RawIOBase):
    """A file composed of spans of another file and of bytes.

    It never raises, as libsndfile's callbacks would print the error and go on.

    Attributes:
        error: the first error of the file system, or None.

    Args:
        file: a seekable file; it stays open.
        pieces: the spans and bytes, in order.
    """

    def __init__(self, file: BinaryIO, pieces: tuple[bytes | Span, ...]):
        self._file = file
        self._pieces, self._starts, self._size = pieces, [], 0
        for piece in pieces:
            self._starts.append(self._size)
            self._size += len(piece)
        self._at = 0
        self._current = 0
        self.error: OSError | None = None

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Fill a buffer; it is left partly filled only at the end."""
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._at < self._size and self.error is None:
            self._find()
            piece, offset = self._pieces[self._current], self._at - self._starts[self._current]
            size = min(len(view) - done, len(piece) - offset)
            content = self._read(piece, offset, size)
            if not content:
                break
            view[done : done + len(content)] = content
            done += len(content)
            self._at += len(content)
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def _find(self) -> None:
        """Find the piece that holds the position, which mostly is the same as before, or the next."""
        if self._at < self._starts[self._current]:
            self._current = 0
        while self._at >= self._starts[self._current] + len(self._pieces[self._current]):
            self._current += 1

    def _read(self, piece: bytes | Span, offset: int, size: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[offset : offset + size]
        try:
            self._file.seek(piece.start + offset)
            return self._file.read(size)
        except OSError as error:
            self.error = error
            return b""


def edited(start: int, stop: int, edits: dict[int, tuple[int, bytes]]) -> tuple[bytes | Span, ...]:
    """A span of a file with some bytes replaced.

    Args:
        start: where the span begins.
        stop: where the span ends.
        edits: for each position in the file, the number of bytes removed there and the bytes put in their place.
    """
    pieces: list[bytes | Span] = []
    for place, (left_out, content) in sorted(edits.items()):
        if place > start:
            pieces.append(Span(start, place))
        if content:
            pieces.append(content)
        start = place + left_out
    return (*pieces, Span(start, stop)) if stop > start else tuple(pieces)
