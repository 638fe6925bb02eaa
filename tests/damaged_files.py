"""Files as they reach a program in the end: cut, mislabelled, of the wrong kind, oddly named. Drawn from a seed.

Every kind of damage is a function of a path and a generator. What it leaves at the path is either certainly unusable
(`CERTAIN`), or a chance that a reader may take (`CHANCES`): some such files can be read, and then must be.
"""

import io
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
NAMES = (
    "plain",
    "with  spaces ",
    "two\nlines",
    "emoji 🎤👩‍🚀",
    "[red]brackets[bold",
    "quote'\"` $(x) %s {0}",
    "\x1b[31mcolour\x07\r\t",
    "ünïcödé 名前",
    os.fsdecode(b"no \xff\xfe utf-8"),
    "x" * 200,
    "--out",
    "p001_a.b..c",
)
# Places of fields in the header of a WAV file of 44 bytes.
RIFF_SIZE, FORMAT_SIZE, CODING, CHANNELS, SAMPLE_RATE, BYTE_RATE, ALIGNMENT, BITS, DATA_SIZE = (
    (4, "I"),
    (16, "I"),
    (20, "H"),
    (22, "H"),
    (24, "I"),
    (28, "I"),
    (32, "H"),
    (34, "H"),
    (40, "I"),
)

Damage = Callable[[Path, np.random.Generator], object]


@dataclass(frozen=True)
class Damaged:
    """One file that was made.

    Attributes:
        path: where it is.
        kind: what was done to it.
        certain: whether no program can use it.
    """

    path: Path
    kind: str
    certain: bool


def speech(seconds: float = 0.6, seed: int = 0) -> np.ndarray:
    """Modulated noise, float64 [S] in [-1, 1]."""
    moments = np.arange(round(seconds * RATE)) / RATE
    return 0.1 * np.random.default_rng(seed).normal(size=moments.size).clip(-4, 4) * (1 + np.sin(19 * moments))


def encoded(suffix: str = ".wav", samples: np.ndarray | None = None, rate: int = RATE, subtype: str = "") -> bytes:
    """A sound file as bytes; its format goes by a suffix."""
    samples, content = speech() if samples is None else samples, io.BytesIO()
    default = "VORBIS" if suffix.lower() == ".ogg" else "PCM_16"
    soundfile.write(content, samples, rate, format=FORMATS[suffix.lower()], subtype=subtype or default)
    return content.getvalue()


def with_field(content: bytes, field: tuple[int, str], value: int) -> bytes:
    """A WAV file's bytes with another number in a field of its header."""
    place, kind = field
    return content[:place] + struct.pack(f"<{kind}", value) + content[place + struct.calcsize(kind) :]


def _floats(*strange: float) -> Damage:
    def make(path: Path, draw: np.random.Generator) -> None:
        samples = speech()
        samples[draw.integers(samples.size, size=len(strange))] = strange
        path.write_bytes(encoded(samples=samples, subtype="DOUBLE" if draw.integers(2) else "FLOAT"))

    return make


def _field(field: tuple[int, str], *values: int) -> Damage:
    return lambda path, draw: path.write_bytes(with_field(encoded(), field, int(draw.choice(values))))


def _content(*contents: bytes) -> Damage:
    return lambda path, draw: path.write_bytes(contents[draw.integers(len(contents))])


def _cut(low: float, high: float, suffix: str | None = None) -> Damage:
    """Keep a share of the bytes."""

    def make(path: Path, draw: np.random.Generator) -> None:
        content = encoded(suffix or path.suffix)
        path.write_bytes(content[: max(1, int(draw.uniform(low, high) * len(content)))])

    return make


def _flipped(low: int, high: int) -> Damage:
    """Change a few bytes between two places."""

    def make(path: Path, draw: np.random.Generator) -> None:
        content = bytearray(encoded(path.suffix))
        for place in draw.integers(low, min(high, len(content)), size=draw.integers(1, 6)):
            content[place] = draw.integers(256)
        path.write_bytes(content)

    return make


def _endless_flac(path: Path, draw: np.random.Generator) -> None:
    """The stream's header promises 2 ** 36 - 1 samples, 256 GiB as floats."""
    content = bytearray(encoded(".flac"))
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)


def _socket(path: Path, draw: np.random.Generator) -> None:
    # By a short path: the name of a socket has a limit of about 100 bytes.
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/s")
    os.rename(path.with_name("s"), path)
    os.close(here)


CERTAIN: dict[str, Damage] = {
    "empty": _content(b""),
    "text": _content(b"This is not audio.\n" * 30, b"<html><body>404 Not Found</body></html>", b"\0" * 4000),
    "other formats": _content(b"\x89PNG\r\n\x1a\n" + b"\0" * 200, b"PK\x03\x04" + b"x" * 90, b"%PDF-1.7\n" * 9),
    "header cut": lambda path, draw: path.write_bytes(encoded()[: draw.integers(1, 36)]),
    "wav cut short": _cut(0.05, 0.95, ".wav"),
    "flac cut short": _cut(0.3, 0.9, ".flac"),
    "ogg cut short": _cut(0.1, 0.9, ".ogg"),
    "claims more": _field(DATA_SIZE, 19_300, 20_000, 10**9),
    "no channels": _field(CHANNELS, 0, 1025, 65_535),
    "absurd rate": _field(SAMPLE_RATE, 0, 1, 999, 768_001, 2**31 - 1, 2**31, 2**32 - 1),
    "unknown coding": _field(CODING, 0, 999, 65_535),
    "no frames": lambda path, draw: path.write_bytes(encoded(samples=np.zeros(0))),
    "NaN": _floats(float("nan")),
    "infinite": _floats(float("inf"), float("-inf")),
    "beyond any recording": _floats(3e38, -1e30),
    "endless flac": _endless_flac,
    "broken link": lambda path, _: path.symlink_to("nowhere at all.wav"),
    "link to itself": lambda path, _: path.symlink_to(path.name),
    "link to a device": lambda path, _: path.symlink_to("/dev/zero"),
    "pipe": lambda path, _: os.mkfifo(path),
    "socket": _socket,
}
CHANCES: dict[str, Damage] = {
    "header flipped": _flipped(0, 44),
    "body flipped": _flipped(44, 10**9),
    "odd alignment": _field(ALIGNMENT, 0, 1, 3, 65_535),
    "odd bits": _field(BITS, 0, 7, 24, 255),
    "odd sizes": _field(RIFF_SIZE, 0, 10, 2**32 - 1),
    "odd format chunk": _field(FORMAT_SIZE, 0, 15, 18, 1000, 2**32 - 1),
    "claims less": _field(DATA_SIZE, 0, 1, 9_600, 2**32 - 1),
    "another rate": _field(SAMPLE_RATE, 1000, 8000, 44_100, 768_000),
    "64 channels": lambda path, draw: path.write_bytes(encoded(samples=speech(6.4).reshape(-1, 64))),
    "random": lambda path, draw: path.write_bytes(draw.bytes(int(draw.integers(1, 3000)))),
}
if os.geteuid() != 0:  # Nothing is forbidden to root.
    CERTAIN["forbidden"] = lambda path, _: (path.write_bytes(encoded()), path.chmod(0))


def make_damaged(folder: Path, count: int = 200, seed: int = 0) -> list[Damaged]:
    """Fill a folder with damaged files, every kind and every name in turn.

    Args:
        folder: is made where it is not there.
        count: how many files.
        seed: of what is drawn.

    Returns:
        What was made, in order of names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [(kind, make, True) for kind, make in CERTAIN.items()]
    kinds += [(kind, make, False) for kind, make in CHANCES.items()]
    made = []
    for number in range(count):
        kind, make, certain = kinds[number % len(kinds)]
        draw = np.random.default_rng((seed, number))
        suffix = (".wav", ".flac", ".WAV")[number % 3]
        path = folder / f"{number:03d} {NAMES[number % len(NAMES)]}{suffix}"
        make(path, draw)
        made.append(Damaged(path, kind, certain))
    return made
