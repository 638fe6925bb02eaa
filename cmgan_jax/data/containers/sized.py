"""Formats with one length in the header and nothing after the audio: AU, NIST SPHERE and Creative Voice."""

import re

from cmgan_jax.data.containers.parts import CONVERT, COPY_AGAIN, ContainerError, Part, Reader, Span, edited

_AU, _AU_LITTLE, _NIST, _VOC = b".snd", b"dns.", b"NIST_1A\n", b"Creative Voice File\x1a"
MAGIC = (_AU, _AU_LITTLE, _NIST, _VOC)
"""Magic bytes of these formats."""
_MISCOUNT = 64
_STREAMED = 0x7FFF_0000
_SOUND, _CONTINUED, _SOUND_NEW = 1, 2, 9
_REPEAT, _REPEAT_END = 6, 7


def parse(file: Reader, start: int, stop: int) -> Part | None:
    """Parse the recording that begins at `start`; None where its header is not understood."""
    head = file.at(start, 20)
    return (
        _voc(file, start, stop)
        if head == _VOC
        else _nist(file, start, stop)
        if head[:8] == _NIST
        else _au(file, start, stop)
    )


def _au(file: Reader, start: int, stop: int) -> Part | None:
    order = "big" if file.at(start, 4) == _AU else "little"
    body, size = start + file.number(start + 4, 4, order), file.number(start + 8, 4, order)
    if not start + 24 <= body <= stop:
        return None
    there = stop - body if size == 0 or size >= _STREAMED else _there(size, stop - body, body - start)
    if there >= 2**32:
        raise ContainerError(f"its header cannot state {there} bytes of audio: {CONVERT}")
    edits = {} if there == size else {start + 8: (4, there.to_bytes(4, "big" if order == "big" else "little"))}
    end = body + there
    return Part(edited(start, end, edits), end, as_it_is=not edits and start == 0 and end == file.size)


def _nist(file: Reader, start: int, stop: int) -> Part | None:
    text = file.at(start, 1024)
    length = re.match(rb"NIST_1A\n *(\d{1,7})\n", text)
    numbers = dict(re.findall(rb"\n(sample_count|channel_count|sample_n_bytes) -i (\d{1,15})\b", text))
    if not length or len(numbers) < 3:
        return None
    size = int(numbers[b"sample_count"]) * int(numbers[b"channel_count"]) * int(numbers[b"sample_n_bytes"])
    body = start + int(length[1])
    if body > stop:
        return None
    end = body + _there(size, stop - body, body - start)
    return Part((Span(start, end),), end, as_it_is=start == 0 and end == file.size)


def _voc(file: Reader, start: int, stop: int) -> Part | None:
    at, sounds = start + file.number(start + 20, 2), 0
    # The writer may have forgotten to count the last block's header.
    while at < stop - (_MISCOUNT if sounds else 0) and (kind := file.number(at, 1)) != 0:
        size = file.number(at + 1, 3)
        if at + 4 + size > stop:
            raise ContainerError(f"cut short: {stop - at - 4} of {size} bytes of a block are there; {COPY_AGAIN}")
        sounds += kind in (_SOUND, _CONTINUED, _SOUND_NEW)
        if kind in (_REPEAT, _REPEAT_END):
            raise ContainerError(f"repeats a part of itself, which is not read here: {CONVERT}")
        at += 4 + size
    if sounds > 1:
        raise ContainerError(f"holds {sounds} blocks of sound, of which only one is read here: {CONVERT}")
    end = stop if stop - at <= _MISCOUNT else at + 1
    return Part((Span(start, end),), end, as_it_is=start == 0 and end == file.size)


def _there(size: int, available: int, header: int) -> int:
    """Return the number of bytes of audio that are present.

    Raises:
        ContainerError: the header promises more.
    """
    if size <= available:
        return size
    if size - available <= _MISCOUNT or size - available == header:
        return available
    raise ContainerError(f"cut short: {available} of {size} bytes of audio are there; {COPY_AGAIN}")
