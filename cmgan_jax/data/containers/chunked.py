"""Formats made of chunks: WAV, RF64, Wave64, AIFF, SVX and CAF."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from cmgan_jax.data.containers import mpeg
from cmgan_jax.data.containers.parts import CONVERT, COPY_AGAIN, ContainerError, Part, Reader, Span, edited

_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_FILE = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
_MISCOUNT = 64
"""Bytes by which a header may overstate a size, because it counted itself or rounded up."""
_MPEG = (0x50, 0x55)
"""WAV codings that are MPEG audio: their length is known from the frames alone."""
_STREAMED_32, _STREAMED_64 = 0x7FFF_0000, 2**62
"""From here on, a size means that the writer could not know it, because it wrote to a pipe."""


@dataclass(frozen=True)
class _Kind:
    """The chunk layout of one format.

    Attributes:
        first: offset of the first chunk.
        name: length of a chunk's name in bytes.
        size: length of its size field in bytes.
        order: byte order of the size field.
        align: chunks begin at multiples of this number.
        counts_head: whether the size includes the name and size fields.
        data: name of the audio chunk.
        inner: bytes at the audio chunk's beginning that are not audio.
    """

    first: int
    name: int
    size: int
    order: Literal["little", "big"]
    align: int
    counts_head: bool
    data: bytes
    inner: int = 0


_RIFF = _Kind(12, 4, 4, "little", 2, False, b"data")
_RIFX = _Kind(12, 4, 4, "big", 2, False, b"data")
_W64 = _Kind(40, 16, 8, "little", 8, True, b"data" + _W64_TAIL)
_AIFF = _Kind(12, 4, 4, "big", 2, False, b"SSND", inner=8)
_SVX = _Kind(12, 4, 4, "big", 2, False, b"BODY")
_CAF = _Kind(8, 4, 8, "big", 1, False, b"data", inner=4)
MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", _W64_FILE)
"""Magic bytes of these formats."""


def parse(file: Reader, start: int, stop: int) -> Part | None:
    """Parse the recording that begins at `start`; None where its chunks cannot be followed."""
    kind = _kind(file, start)
    if kind is None:
        return None
    head = kind.name + kind.size
    at, edits, coding = start + kind.first, {}, 0
    while at + head <= stop:
        name, size = file.at(at, kind.name), _size(file, at, kind)
        body = at + head
        if name == kind.data:
            long = size == 0xFFFF_FFFF and _has_ds64(file, start)
            promised = file.number(start + 28, 8) if long else size
            there = _there(file, kind, start, body, promised, stop)
            if there != promised and long:
                edits[start + 28] = (8, there.to_bytes(8, "little"))
            elif there != promised:
                stated = _fits(there, kind) + head * kind.counts_head
                edits[at + kind.name] = (kind.size, stated.to_bytes(kind.size, kind.order))
            end = _end(file, kind, body + _even(there, kind), stop)
            if coding in _MPEG and (part := mpeg.parse(file, body, body + there)):
                return replace(part, end=end, as_it_is=False)
            return Part(edited(start, end, edits), end, as_it_is=not edits and start == 0 and end == file.size)
        if not _is_name(name, kind):
            return None
        if body + size > stop:
            break
        coding = file.number(body, 2) if name == b"fmt " else coding
        padded = body + _even(size, kind)
        if not _is_name(file.at(padded, kind.name), kind) and _is_name(file.at(body + size, kind.name), kind):
            # The writer left out the padding byte that makes the size even; such a writer mostly has more faults.
            edits[at], padded = (head + size, b""), body + size
        at = padded
    raise ContainerError(f"damaged or cut short: it ends before its audio; {COPY_AGAIN}")


def beside_audio(file: Reader) -> Iterator[tuple[bytes, Span]]:
    """Yield the name and span of every chunk except the audio; a span begins with the chunk's name.

    Raises:
        ContainerError: the file is truncated.
    """
    kind, stop = _kind(file, 0), file.size
    if kind is None:
        return
    at, head = kind.first, kind.name + kind.size
    while at + head <= stop:
        name, size, body = file.at(at, kind.name), _size(file, at, kind), at + head
        if name == kind.data:
            long = size == 0xFFFF_FFFF and _has_ds64(file, 0)
            size = _there(file, kind, 0, body, file.number(28, 8) if long else size, stop)
        elif not _is_name(name, kind) or name in MAGIC or body + size > stop:
            return
        else:
            yield name, Span(at, body + size)
        at = body + _even(size, kind)
        if not _is_name(file.at(at, kind.name), kind) and _is_name(file.at(body + size, kind.name), kind):
            at = body + size


def _kind(file: Reader, start: int) -> _Kind | None:
    magic, form = file.at(start, 4), file.at(start + 8, 4)
    if magic in (b"RIFF", b"RF64", b"BW64", b"RIFX"):
        return (_RIFX if magic == b"RIFX" else _RIFF) if form == b"WAVE" else None
    if magic == b"FORM":
        return _AIFF if form in (b"AIFF", b"AIFC") else _SVX if form in (b"8SVX", b"16SV") else None
    return _CAF if magic == b"caff" else _W64


def _there(file: Reader, kind: _Kind, start: int, body: int, size: int, stop: int) -> int:
    """Return the number of bytes of the audio chunk that are present.

    Raises:
        ContainerError: the chunk's header promises more.
    """
    available, header = stop - body, body - start
    if size <= kind.inner:
        # Either the recorder was killed before it wrote a length, or the recording is empty and only chunks follow.
        empty = _end(file, kind, body + _even(size, kind), stop) == stop
        return size if empty else available
    if size <= available:
        return size
    streamed = size >= (_STREAMED_64 if kind.size == 8 or size >= 2**32 else _STREAMED_32)
    # In packetised audio, one missing byte loses the last packet.
    packets = kind is _CAF and file.at(start + 28, 4) != b"lpcm"
    if streamed or (size - available <= _MISCOUNT and not packets) or size - available in (header, header - 8):
        return available
    raise ContainerError(f"cut short: {available} of {size} bytes of audio are there; {COPY_AGAIN}")


def _fits(available: int, kind: _Kind) -> int:
    if kind.size == 4 and available >= 2**32:
        raise ContainerError(f"its header cannot state {available} bytes of audio: {CONVERT.replace('.wav', '.w64')}")
    return available


def _end(file: Reader, kind: _Kind, at: int, stop: int) -> int:
    """Find where the chunks after the audio end."""
    head = kind.name + kind.size
    while at + head <= stop:
        name, body = file.at(at, kind.name), at + head
        size = _size(file, at, kind)
        if not _is_name(name, kind) or name in MAGIC or body + size > stop:
            break
        at = min(stop, body + _even(size, kind))
    return min(at, stop)


def _size(file: Reader, at: int, kind: _Kind) -> int:
    size = file.number(at + kind.name, kind.size, kind.order)
    return max(0, size - kind.name - kind.size) if kind.counts_head else size


def _even(size: int, kind: _Kind) -> int:
    """Round a chunk's size up to the alignment of the next."""
    return -(-size // kind.align) * kind.align


def _is_name(name: bytes, kind: _Kind) -> bool:
    if kind.name == 16:
        return name[4:] in (_W64_TAIL, _W64_FILE[4:]) or name[6:8] in (b"\xcf\x11", b"\xd3\x11")
    return len(name) == 4 and all(0x20 <= letter < 0x7F for letter in name)


def _has_ds64(file: Reader, start: int) -> bool:
    """Whether the length of the audio is in RF64's own `ds64` chunk."""
    return file.at(start, 4) in (b"RF64", b"BW64") and file.at(start + 12, 4) == b"ds64"
