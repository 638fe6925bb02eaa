"""Metadata of a recording (tags, cover art, cue points, broadcast extension), which is carried over to the result.

libsndfile supports a few kinds of tags only, and writes text that is not UTF-8 as question marks. So chunks or blocks
are copied as they are where the format allows it; elsewhere libsndfile's tags are written, and losses are reported.
"""

import os
from dataclasses import dataclass
from typing import BinaryIO

from cmgan_jax.data.containers import chunked, tags
from cmgan_jax.data.containers.parts import ContainerError, Reader

_OF_AUDIO = {
    *(b"fmt ", b"fact", b"PEAK", b"ds64", b"JUNK", b"junk", b"FLLR", b"PAD ", b"levl", b"MD5 "),
    *(b"COMM", b"SSND", b"FVER", b"VHDR", b"CHAN"),
    *(b"desc", b"data", b"pakt", b"kuki", b"chan", b"free", b"peak"),
}
"""Chunks that are not copied: they describe the encoding, are padding, or would no longer be valid."""
_CHUNKED = {"WAV": b"RIFF", "WAVEX": b"RIFF", "RF64": b"RF64", "W64": b"riff", "AIFF": b"FORM", "CAF": b"caff"}
_FLAC_BLOCKS_AT = 42
"""Offset of the second metadata block in a FLAC file: 4 bytes of magic, 4 of block header, 34 of stream information."""
_STREAM_INFO, _PADDING, _SEEK_TABLE, _COMMENT = 0, 1, 3, 4
_MOST = 64 * 2**20
"""Maximum number of bytes that are carried over."""
_KNOWN = {
    *(b"TITLE", b"COPYRIGHT", b"SOFTWARE", b"ENCODER", b"ARTIST", b"COMMENT", b"DATE", b"ALBUM", b"LICENSE"),
    *(b"TRACKNUMBER", b"GENRE"),
}
"""Comments of an OGG file that libsndfile keeps."""
_PICTURES = (b"METADATA_BLOCK_PICTURE", b"COVERART", b"COVERARTMIME")


@dataclass(frozen=True)
class Carried:
    """Metadata of a recording as raw bytes, for a file of the same format.

    Attributes:
        inserted: bytes to insert at `place` into what libsndfile writes.
        place: offset of `inserted` in bytes.
        appended: bytes to append at the end.
        replaces_tags: whether the bytes include tags, so that libsndfile must not write any.
        lost: description of what is lost; empty if nothing is.
    """

    inserted: bytes = b""
    place: int = 0
    appended: bytes = b""
    replaces_tags: bool = False
    lost: str = ""


def carried(source: BinaryIO, kind: str) -> Carried:
    """Collect the metadata to carry over.

    Args:
        source: the recording.
        kind: libsndfile's name of the output format.

    Raises:
        OSError: the recording cannot be read.
    """
    file = Reader(source)
    magic = file.at(0, 4)
    if _CHUNKED.get(kind) == magic or (kind, magic) in (("RF64", b"BW64"), ("WAV", b"RIFX")):
        return _chunks(file)
    if kind == "FLAC" and magic == b"fLaC":
        return _blocks(file)
    if kind == "MP3":
        front, tail = tags.front(file), tags.tail(file)
        if front + file.size - tail <= _MOST:
            return Carried(file.at(0, front), 0, file.at(tail, file.size - tail), front > 0 or tail < file.size)
    return Carried(lost=_lost_of_ogg(file)) if magic == b"OggS" else Carried()


def complete(file: BinaryIO, what: Carried, kind: str) -> None:
    """Add the remaining metadata to a file that libsndfile has closed.

    Args:
        file: the file, open for reading and writing; it contains `what.inserted` already.
        what: metadata to carry over.
        kind: libsndfile's name of the file's format.

    Raises:
        OSError: the file cannot be written.
    """
    if kind == "FLAC" and what.inserted:
        _drop_comment(file, _FLAC_BLOCKS_AT + len(what.inserted))
    if not what.appended:
        return
    size = file.seek(0, os.SEEK_END)
    align = {"W64": 8, "CAF": 1, "MP3": 1}.get(kind, 2)
    file.write(bytes(-size % align) + what.appended)
    size = file.tell()
    place, length, order, counted = {
        "WAV": (4, 4, "little", size - 8),
        "WAVEX": (4, 4, "little", size - 8),
        "RF64": (20, 8, "little", size - 8),
        "W64": (16, 8, "little", size),
        "AIFF": (4, 4, "big", size - 8),
    }.get(kind, (0, 0, "big", 0))
    if length and counted < 256**length - 1:
        file.seek(place)
        file.write(counted.to_bytes(length, "big" if order == "big" else "little"))


def _chunks(file: Reader) -> Carried:
    found, align = [], 8 if file.at(0, 4) == b"riff" else 1 if file.at(0, 4) == b"caff" else 2
    try:
        for name, place in chunked.beside_audio(file):
            if name[:4] not in _OF_AUDIO:
                found.append(file.at(place.start, len(place)))
    except ContainerError:
        return Carried()
    if file.at(0, 4) == b"RIFX" or sum(map(len, found)) > _MOST:
        return Carried(lost="its chunks beside the audio" if found else "")
    return Carried(appended=b"".join(chunk + bytes(-len(chunk) % align) for chunk in found), replaces_tags=bool(found))


def _blocks(file: Reader) -> Carried:
    found, at, last = [], 4, False
    while not last and at < file.size:
        head = file.at(at, 4)
        size = int.from_bytes(head[1:4], "big")
        last, kind = bool(head[0] & 0x80), head[0] & 0x7F
        if kind not in (_STREAM_INFO, _PADDING, _SEEK_TABLE):
            found.append(bytes([kind]) + file.at(at + 1, 3 + size))
        at += 4 + size
    if sum(map(len, found)) > _MOST:
        return Carried(lost="its blocks beside the audio")
    return Carried(b"".join(found), _FLAC_BLOCKS_AT, replaces_tags=bool(found))


def _drop_comment(file: BinaryIO, at: int) -> None:
    """Turn the comment block that libFLAC always writes into padding: only one is allowed, and the source has one."""
    file.seek(at)
    head = file.read(4)
    if len(head) == 4 and head[0] & 0x7F == _COMMENT:
        file.seek(at)
        size = int.from_bytes(head[1:4], "big")
        file.write(bytes([head[0] & 0x80 | _PADDING]) + head[1:4] + bytes(size))


def _lost_of_ogg(file: Reader) -> str:
    """Describe the comments that libsndfile does not keep, by name."""
    payload, at = b"", 0
    while len(payload) < 2**20 and file.at(at, 4) == b"OggS":
        segments = file.at(at + 27, file.number(at + 26, 1))
        payload += file.at(at + 27 + len(segments), sum(segments))
        at += 27 + len(segments) + sum(segments)
    start = max(payload.find(b"\x03vorbis") + 7, payload.find(b"OpusTags") + 8)
    if start < 8 and payload[:8] != b"OpusTags":
        return ""

    def number(place: int) -> int:
        return int.from_bytes(payload[place : place + 4], "little")

    place = start + 4 + number(start)
    names, place, count = set(), place + 4, number(place)
    while count > 0 and place < len(payload):
        names.add(payload[place + 4 : place + 4 + min(number(place), 40)].partition(b"=")[0].upper())
        place, count = place + 4 + number(place), count - 1
    words = ["its cover art"] if names & set(_PICTURES) else []
    other = sorted(name.decode("ascii", "replace") for name in names - _KNOWN - set(_PICTURES) if name)
    words += [f"its tags {', '.join(other)}"] if other else []
    return " and ".join(words)
