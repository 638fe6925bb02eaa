"""What a recording has beside its audio comes through an enhancement byte by byte, or is named."""

import base64
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_enhance import noise
from test_enhance_cli import processor

from cmgan_jax.inference.files import Done, Job, enhance_file

LATIN = "Café".encode("latin-1")
BEXT = b"A take".ljust(256, b"\0") + b"REC".ljust(32, b"\0") + bytes(32) + b"2024-01-0112:00:00" + bytes(256)
CUE = struct.pack("<IIIIIII", 1, 1, 0, int.from_bytes(b"data", "little"), 0, 0, 400)
INFO = b"INFOINAM" + struct.pack("<I", 4) + LATIN
ART = bytes(range(256)) * 40


def encoded(kind: str, subtype: str = "PCM_16") -> bytes:
    content = io.BytesIO()
    soundfile.write(content, noise(8_000), 16_000, format=kind, subtype=subtype)
    return content.getvalue()


def chunk(name: bytes, body: bytes, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(body)) + body + bytes(len(body) % 2)


def with_chunks(content: bytes, before: bytes, after: bytes, order: str = "<") -> bytes:
    content = content[:12] + before + content[12:] + after
    return content[:4] + struct.pack(f"{order}I", len(content) - 8) + content[8:]


def id3(body: bytes) -> bytes:
    """Version 2.3, whose sizes have seven bits a byte."""
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + body


def id3_frame(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">I", len(body)) + b"\0\0" + body


TAG = id3(id3_frame(b"TIT2", b"\0" + LATIN) + id3_frame(b"APIC", b"\0image/png\0\x03\0" + ART))
OLD_TAG = b"TAG" + LATIN.ljust(125, b"\0")


def flac_with_picture() -> tuple[bytes, bytes]:
    content = encoded("FLAC")
    picture = struct.pack(">I", 3) + struct.pack(">I", 9) + b"image/png" + bytes(20) + struct.pack(">I", len(ART)) + ART
    block = b"\x06" + len(picture).to_bytes(3, "big") + picture
    return content[:42] + block + content[42:], block


def run(tmp_path: Path, name: str, content: bytes) -> tuple[Done, bytes]:
    source, target = tmp_path / name, tmp_path / "out" / name
    source.write_bytes(content)
    done = enhance_file(processor(), Job(source, target, name))
    assert os.listdir(target.parent) == [name]
    before, _ = soundfile.read(source)
    after, rate = soundfile.read(target)
    assert (len(after), rate) == (8_000, 16_000)
    assert np.abs(after - before)[800:-800].max() < 0.3  # the audio, not shifted bytes; MP3 twice is coarse on noise
    return done, target.read_bytes()


@pytest.mark.parametrize(
    ("kind", "size"), [("WAV", lambda b: (4, 4, len(b) - 8)), ("WAVEX", lambda b: (4, 4, len(b) - 8))]
)
def test_chunks_of_wav(tmp_path: Path, kind: str, size) -> None:
    kept = [chunk(b"bext", BEXT), chunk(b"cue ", CUE), chunk(b"LIST", INFO), chunk(b"id3 ", TAG)]
    done, found = run(tmp_path, "a.wav", with_chunks(encoded(kind), kept[0], b"".join(kept[1:])))
    assert done.lost == ""
    for part in kept:
        assert found.count(part) == 1
    assert found.count(b"LIST") == 1
    place, length, value = size(found)
    assert int.from_bytes(found[place : place + length], "little") == value


def test_chunks_of_aiff(tmp_path: Path) -> None:
    kept = [chunk(b"NAME", LATIN, ">"), chunk(b"ID3 ", TAG, ">")]
    done, found = run(tmp_path, "a.aiff", with_chunks(encoded("AIFF"), kept[0], kept[1], ">"))
    assert (done.lost, found.count(kept[0]), found.count(kept[1])) == ("", 1, 1)
    assert int.from_bytes(found[4:8], "big") == len(found) - 8


def test_blocks_of_flac(tmp_path: Path) -> None:
    content, picture = flac_with_picture()
    done, found = run(tmp_path, "a.flac", content)
    assert (done.lost, found.count(picture)) == ("", 1)
    # One comment is allowed: walk the blocks.
    at, kinds = 4, [0]
    while kinds[-1] < 0x80:
        kinds.append(found[at])
        at += 4 + int.from_bytes(found[at + 1 : at + 4], "big")
    assert [kind & 0x7F for kind in kinds].count(4) == 1
    assert found[at] == 0xFF


def test_tags_of_mp3(tmp_path: Path) -> None:
    done, found = run(tmp_path, "a.mp3", TAG + encoded("MP3", "MPEG_LAYER_III") + OLD_TAG)
    assert done.lost == ""
    assert found.startswith(TAG)
    assert found.endswith(OLD_TAG)
    assert found.count(b"ID3") == 1


def test_what_ogg_loses_is_named(tmp_path: Path) -> None:
    """The second page has comments and set-up; longer comments need new lengths, and a checksum that libogg checks."""
    content = encoded("OGG", "VORBIS")
    start = content.index(b"OggS", 4)
    table = content[start + 27 : start + 27 + content[start + 26]]
    body = start + 27 + len(table)
    end = body + sum(table)
    vendor = int.from_bytes(content[body + 7 : body + 11], "little")
    after = body + 11 + vendor
    count = int.from_bytes(content[after : after + 4], "little")
    comments = [b"METADATA_BLOCK_PICTURE=" + base64.b64encode(b"x" * 60), b"MOOD=calm"]
    listed = struct.pack("<I", count + 2) + b"".join(struct.pack("<I", len(c)) + c for c in comments)
    packet_end = body + sum(table[: next(i for i, s in enumerate(table) if s < 255) + 1])
    packets = [content[body:after] + listed + content[after + 4 : packet_end], content[packet_end:end]]
    lacing = b"".join(b"\xff" * (len(p) // 255) + bytes([len(p) % 255]) for p in packets)
    page = bytearray(content[start : start + 22] + bytes(4) + bytes([len(lacing)]) + lacing + b"".join(packets))
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = crc << 1 ^ (0x1_04C1_1DB7 if crc & 0x8000_0000 else 0)
    page[22:26] = struct.pack("<I", crc)
    done, _ = run(tmp_path, "a.ogg", content[:start] + bytes(page) + content[end:])
    assert done.lost == "its cover art and its tags MOOD"
