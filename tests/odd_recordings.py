"""Recordings with headers that say too much or nothing, with several streams, with tags around them: as bytes."""

import io
import struct
from typing import Any

import numpy as np
import soundfile

RATE = 16_000
FRAMES = 9_000
KINDS = (
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"),
    ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
    ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("NIST", "PCM_16"), ("VOC", "PCM_16"), ("SVX", "PCM_16"),
)  # fmt: skip
"""Formats and sub-types whose structure tells what they hold."""
# MPEG 2, layer III: kilobits by the code in a frame's header.
_KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def signal(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    """Noise with a pause in it, so that a variable rate varies, float64 [S]."""
    audio = 0.1 * np.random.default_rng(seed).normal(size=frames).clip(-4, 4)
    audio[frames // 3 : frames // 2] *= 1e-3
    return audio


def encoded(kind: str, subtype: str, audio: np.ndarray | None = None, rate: int = RATE, **how: Any) -> bytes:
    """A recording as libsndfile writes it."""
    content = io.BytesIO()
    soundfile.write(content, signal() if audio is None else audio, rate, format=kind, subtype=subtype, **how)
    return content.getvalue()


def mp3(audio: np.ndarray | None = None, **how: Any) -> bytes:
    """MP3 with a variable rate, and in front the frame that tells how many follow."""
    return encoded("MP3", "MPEG_LAYER_III", audio, bitrate_mode="VARIABLE", compression_level=0.4, **how)


def frames_of(content: bytes) -> list[bytes]:
    """The frames of an MP3 at 16 kHz."""
    found, at = [], 0
    while at < len(content):
        size = 72_000 * _KILOBITS[content[at + 2] >> 4] // RATE + (content[at + 2] >> 1 & 1)
        found.append(content[at : at + size])
        at += size
    assert b"".join(found) == content
    return found


def without_note(content: bytes) -> bytes:
    """An MP3 as a streaming encoder writes it: nothing tells its number of frames."""
    first, *others = frames_of(content)
    assert b"Xing" in first or b"Info" in first
    return b"".join(others)


def id3(size: int) -> bytes:
    """A tag in front, of so many bytes after its head; it may hold what looks like frames."""
    lengths = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + lengths + (b"\xff\xf3\x48\xc4" * (size // 4 + 1))[:size]


def ape(size: int, head: bool = True) -> bytes:
    """An APE tag: items, then a foot; since its second version a head in front."""
    numbers = struct.pack("<4I", 2000 if head else 1000, size + 32, 1, 0x8000_0000 * head) + bytes(8)
    body = b"x" * size + b"APETAGEX" + numbers
    return b"APETAGEX" + struct.pack("<4I", 2000, size + 32, 1, 0xA000_0000) + bytes(8) + body if head else body


ID3V1 = b"TAG" + b"x" * 125


def put(content: bytes, place: int, kind: str, value: int) -> bytes:
    """With another number at a place, as `struct` writes it."""
    return content[:place] + struct.pack(kind, value) + content[place + struct.calcsize(kind) :]


def wav(data_size: int | None = None, riff_size: int | None = None, front: bytes = b"", after: bytes = b"") -> bytes:
    """A WAV file of `signal()` in 16 bits that claims other sizes."""
    data = encoded("WAV", "PCM_16")[44:]
    body = b"WAVE" + front + b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16) + b"data"
    body += struct.pack("<I", len(data) if data_size is None else data_size) + data + after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def of_unknown_length() -> dict[str, bytes]:
    """All of `signal()`, under headers that do not say how much it is."""
    size, junk = 2 * FRAMES, b"JUNK" + struct.pack("<I", 4044) + bytes(4044)
    aiff, au, caf, w64, rf64, flac = (encoded(kind, "PCM_16") for kind in ("AIFF", "AU", "CAF", "W64", "RF64", "FLAC"))
    aiff_data, caf_data, w64_data = aiff.index(b"SSND") + 4, caf.index(b"data") + 4, w64.index(b"data\xf3\xac") + 16
    found = {
        "zero, and a RIFF of nothing": wav(0, 0),
        "zero, as of an empty file": wav(0, 36),
        "zero, after padding": wav(0, 4088, front=junk),
        "all ones": wav(0xFFFF_FFFF, 0xFFFF_FFFF),
        "sox into a pipe": wav(0x7FFF_F000, 0x7FFF_F024),
        "arecord": wav(0x8000_0000, 0x8000_0024),
        "itself counted": wav(size + 44),
        "itself counted but for eight": wav(size + 36),
        "a sample too many": wav(size + 2),
        "itself and padding counted": wav(size + 44 + 4052, front=junk),
        "RIFF of nothing": wav(riff_size=0),
        "an odd chunk without padding": wav(front=b"LIST" + struct.pack("<I", 13) + b"INFOIART\1\0\0\0A"),
    }
    found |= {f"aiff {value:x}": put(aiff, aiff_data, ">I", value) for value in (0, 8, 0x7FFF_FFFF, 0xFFFF_FFFF)}
    found |= {f"au {value:x}": put(au, 8, ">I", value) for value in (0, size + 24, 0xFFFF_FFFF)}
    found |= {f"caf {value}": put(caf, caf_data, ">q", value) for value in (-1, 0, 4)}
    found |= {f"w64 {value:x}": put(w64, w64_data, "<Q", value) for value in (0, 24, 2**63 - 1)}
    found |= {f"rf64 {value:x}": put(rf64, 28, "<Q", value) for value in (0, 2**64 - 1)}
    found["flac"] = put(put(flac, 21, "B", flac[21] & 0xF0), 22, ">I", 0)
    return found


def flac_in_ogg(native: bytes, serial: int = 7) -> bytes:
    """FLAC in pages of OGG, whose sums nothing here looks at; only the last page says how many samples there are."""
    packets = [b"\x7fFLAC\1\0\0\1" + native[:42]]
    packets += [native[start : start + 60_000] for start in range(42, len(native), 60_000)]
    pages = []
    for number, packet in enumerate(packets):
        flags = 2 * (number == 0) + 4 * (number == len(packets) - 1)
        lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
        total = FRAMES if flags & 4 else 0
        pages.append(b"OggS\0" + struct.pack("<BQIIIB", flags, total, serial, number, 0, len(lacing)) + lacing + packet)
    return b"".join(pages)
