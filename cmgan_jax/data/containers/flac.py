"""FLAC: the number of samples is counted from the frames, not taken from the header."""

import re

from cmgan_jax.data.containers.parts import COPY_AGAIN, ContainerError, Part, Reader, edited

MAGIC = b"fLaC"
"""Magic bytes of a FLAC file."""
_NEXT = b"fLaC\0\0\0\x22"
_WHAT = re.compile(rb"\xff[\xf8\xf9]|fLaC\0\0\0\x22|fLaC\x80\0\0\x22", re.DOTALL)
_STEP = 2**20
_HEADER = 16
_GAP = 64
"""Frames that may be missing in the middle where the total is unknown; such frames are damaged, and so is the file."""
_BLOCK_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def _crc8_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ 0x107) if value & 0x80 else value << 1
        table.append(value)
    return tuple(table)


_CRC8 = _crc8_table()


def parse(file: Reader, start: int, stop: int) -> Part | None:
    """Parse the recording that begins at `start`; None where its header is damaged.

    Raises:
        ContainerError: frames are missing at the end.
    """
    info = start + 8
    if file.number(start + 4, 4, "big") & 0x7FFF_FFFF != 34 or info + 34 > stop:
        return None
    block_size = file.number(info, 2, "big")
    total = file.number(info + 13, 5, "big") & (2**36 - 1)
    at, last = start + 4, False
    while not last:
        last, at = bool(file.number(at, 1) & 0x80), at + 4 + file.number(at + 1, 3, "big")
        if at > stop:
            raise ContainerError(f"cut short: it ends within its header; {COPY_AGAIN}")
    found, complete, end = 0, False, stop
    for place, number, size in _frames(file, at, stop, block_size):
        if size == 0:
            end = place
            break
        complete |= number + size == total
        if found <= number <= found + _GAP * size:
            found = number + size
    if found < total and not complete:
        raise ContainerError(f"damaged or cut short: {found} of {total} samples are there; {COPY_AGAIN}")
    edits = {}
    if found > total:
        first = file.number(info + 13, 1) & 0xF0
        edits[info + 13] = (5, (first << 32 | found).to_bytes(5, "big"))
    return Part(edited(start, end, edits), end, as_it_is=not edits and start == 0)


def _frames(file: Reader, at: int, stop: int, block_size: int):
    """Yield position, first sample and sample count of each apparent frame; 0 samples mark another file's start."""
    while at < stop:
        block = file.at(at, min(_STEP + _HEADER, stop - at))
        for match in _WHAT.finditer(block, 0, min(len(block), _STEP + 8)):
            if match.start() >= _STEP:
                break
            place = at + match.start()
            if match[0][:1] == b"f":
                yield place, 0, 0
            elif frame := _frame(block[match.start() : match.start() + _HEADER], block_size):
                yield place, *frame
        at += _STEP


def _frame(head: bytes, block_size: int) -> tuple[int, int] | None:
    """Parse first sample and number of samples from a frame header; None if it is not one."""
    if len(head) < 6 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10 or head[3] & 1:
        return None
    length = 8 - (head[4] ^ 0xFF).bit_length()
    if length in (1, 8) or 4 + max(length, 1) > len(head):
        return None
    number, at = head[4] & (0x7F >> length), 4 + max(length, 1)
    for digit in head[5:at]:
        if digit >> 6 != 2:
            return None
        number = number << 6 | digit & 0x3F
    code = head[2] >> 4
    size = _BLOCK_SIZES[code]
    if code in (6, 7):
        size = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if at >= len(head):
        return None
    crc = 0
    for byte in head[:at]:
        crc = _CRC8[crc ^ byte]
    if crc != head[at]:
        return None
    return (number if head[1] & 1 else number * block_size), size
