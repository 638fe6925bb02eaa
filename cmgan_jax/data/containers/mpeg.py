"""MPEG audio (layers I to III, e.g. MP3): frames are counted, whether or not an info frame tells their number."""

from typing import NamedTuple

from cmgan_jax.data.containers import tags
from cmgan_jax.data.containers.parts import CONVERT, COPY_AGAIN, ContainerError, Part, Reader, Span

_V2_5, _V2, _V1 = 0, 2, 3
_LAYER_3, _LAYER_2, _LAYER_1 = 1, 2, 3
_RATES = {_V1: (44_100, 48_000, 32_000), _V2: (22_050, 24_000, 16_000), _V2_5: (11_025, 12_000, 8_000)}
_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KILOBITS = {
    (_V1, _LAYER_1): tuple(range(0, 449, 32)),
    (_V1, _LAYER_2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (_V1, _LAYER_3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (_V2, _LAYER_1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (_V2, _LAYER_2): _LOW,
    (_V2, _LAYER_3): _LOW,
}
_DELAY = 529
"""Delay of a layer III decoder in samples; libsndfile removes them where an info frame counts the frames."""
_IN_A_ROW = 3
"""Consecutive frames that identify MPEG audio where nothing else does."""
_MOST_IN_FRONT = 4096
"""Bytes before the first frame that may be the rest of another: stream recorders begin in the middle of a broadcast."""
_MOST_JUNK = 65_536
"""Bytes searched for another frame after the last."""


class _Kind(NamedTuple):
    """Properties shared by all frames of a stream."""

    version: int
    layer: int
    rate: int
    mono: bool

    @property
    def samples(self) -> int:
        """Samples per channel in a frame."""
        return 384 if self.layer == _LAYER_1 else 576 if self.layer == _LAYER_3 and self.version != _V1 else 1152

    @property
    def side(self) -> int:
        """Bytes between a frame's header and its Xing information."""
        return (17 if self.mono else 32) if self.version == _V1 else (9 if self.mono else 17)


def _frame_length(kind: _Kind, code: int, padding: int) -> int:
    kilobits = _KILOBITS[_V1 if kind.version == _V1 else _V2, kind.layer][code]
    if kind.layer == _LAYER_1:
        return (12_000 * kilobits // kind.rate + padding) * 4
    return kind.samples // 8 * 1000 * kilobits // kind.rate + padding


def _frames() -> dict[int, tuple[int, _Kind, _Kind]]:
    """Map the second and third header byte of a frame to its length, and to its kind in stereo and in mono."""
    found = {}
    for version, rates in _RATES.items():
        for layer in (_LAYER_1, _LAYER_2, _LAYER_3):
            for code in range(1, 15):
                for index, rate in enumerate(rates):
                    stereo, mono = (_Kind(version, layer, rate, mono) for mono in (False, True))
                    for rest in range(8):  # Checksum flag, padding and the private bit.
                        second = 0xE0 | version << 3 | layer << 1 | rest >> 2
                        third = code << 4 | index << 2 | rest & 3
                        found[second << 8 | third] = (_frame_length(stereo, code, rest >> 1 & 1), stereo, mono)
    return found


_FRAMES = _frames()


class _Note(NamedTuple):
    """An info frame at the start that tells the number of frames: Xing's (also LAME's Info), or Fraunhofer's VBRI."""

    frames: int | None
    """Number of frames; None where it is not given."""
    size: int
    """Bytes of the stream; 0 where it is not given."""
    is_heeded: bool
    """Whether libsndfile uses this information."""


def parse(file: Reader, start: int, stop: int) -> Part | None:
    """Parse the stream that begins at `start`, up to its last frame or the next stream; None if none begins.

    Raises:
        ContainerError: frames are missing, or other bytes lie between them.
    """
    begin = _find(file, start, min(stop, start + _MOST_IN_FRONT), stop)
    if begin is None:
        return None
    length, kind = _frame(file, begin)
    assert kind is not None
    note = _note(file, begin, kind)
    at = run = begin + length if note else begin
    count, spans = 0, []
    while at < stop:
        length, found = _frame(file, at)
        if found == kind and at + length > stop:
            raise ContainerError(f"cut short: its last frame has {stop - at} of {length} bytes; {COPY_AGAIN}")
        if found == kind and (at == begin or not _note(file, at, kind)):
            count, at = count + 1, at + length
            continue
        if found and (found == kind or _in_a_row(file, at, stop)):
            break
        spans.append(Span(run, at))
        resumed = tags.skip(file, at, stop)
        if resumed == at:
            resumed = _find(file, at + 1, min(stop, at + _MOST_JUNK), stop)
            if resumed is not None:
                raise ContainerError(f"damaged: {resumed - at} bytes at byte {at} are no frame; {CONVERT}")
            run = at
            break
        at = run = resumed
    spans = [span for span in (*spans, Span(run, at)) if len(span)]
    # Some encoders count the info frame itself.
    counted = 1 if note and note.size <= at - begin else 0
    if note and note.frames and count + counted < note.frames:
        raise ContainerError(f"cut short: {count} of {note.frames} frames are there; {COPY_AGAIN}")
    if note and note.is_heeded and note.frames == count and len(spans) <= 1:
        return Part((Span(begin, at),), at, as_it_is=begin == start and at == stop)
    size = sum(map(len, spans))
    front = (_info(kind, file.at(begin, 4), count, size),) if kind.layer == _LAYER_3 else ()
    return Part((*front, *spans), at, least=count * kind.samples - _DELAY)


def _frame(file: Reader, at: int) -> tuple[int, _Kind | None]:
    """Return length and kind of the frame at a position; (0, None) where there is none."""
    head = file.at(at, 4)
    entry = _FRAMES.get(head[1] << 8 | head[2]) if len(head) == 4 and head[0] == 0xFF else None
    if entry is None:
        return 0, None
    return entry[0], entry[2] if head[3] >> 6 == 3 else entry[1]


def _in_a_row(file: Reader, at: int, stop: int) -> bool:
    """Whether consecutive frames of one kind begin at a position."""
    kind = None
    for number in range(_IN_A_ROW):
        length, found = _frame(file, at)
        if found is None or found != (kind or found):
            return number > 0 and tags.skip(file, at, stop) > at
        kind, at = found, at + length
        if at >= stop:
            return at == stop or number > 0
    return True


def _find(file: Reader, at: int, before: int, stop: int) -> int | None:
    """Find the first position from which frames follow one another."""
    while at < before:
        block = file.at(at, min(4096, before - at))
        place = block.find(b"\xff")
        while place >= 0:
            if _in_a_row(file, at + place, stop):
                return at + place
            place = block.find(b"\xff", place + 1)
        at += len(block)
    return None


def _note(file: Reader, at: int, kind: _Kind) -> _Note | None:
    if kind.layer != _LAYER_3:
        return None
    frame = file.at(at, 64)
    for place in (4 + kind.side, 6 + kind.side):
        if frame[place : place + 4] in (b"Xing", b"Info"):
            flags, frames, size = frame[place + 7], frame[place + 8 : place + 12], frame[place + 12 : place + 16]
            return _Note(
                int.from_bytes(frames, "big") if flags & 1 else None,
                int.from_bytes(size, "big") if flags & 3 == 3 else 0,
                place == 4 + kind.side,
            )
    if frame[36:40] == b"VBRI":
        return _Note(int.from_bytes(frame[50:54], "big"), 0, False)
    return None


def _info(kind: _Kind, head: bytes, count: int, size: int) -> bytes:
    """Make a silent info frame that tells the number of frames."""
    needed = 4 + kind.side + 16
    code = next(code for code in range(1, 15) if _frame_length(kind, code, 0) >= needed)
    length = _frame_length(kind, code, 0)
    front = bytes([0xFF, head[1] | 1, code << 4 | head[2] & 0x0C, head[3] & 0xCF])
    numbers = (3).to_bytes(4, "big") + count.to_bytes(4, "big") + (size + length).to_bytes(4, "big")
    return (front + bytes(kind.side) + b"Info" + numbers).ljust(length, b"\0")
