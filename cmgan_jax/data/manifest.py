"""The manifest of a prepared corpus: its files, their contents, and how they were made."""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.data import audio
from cmgan_jax.data.folders import composed
from cmgan_jax.errors import UserError
from cmgan_jax.system.outputs import settle
from cmgan_jax.system.temporaries import beside

NAME = "manifest.json"
FORMAT = 1
SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class ManifestEntry:
    """One file of a corpus."""

    path: str
    """Path below the corpus's folder, with forward slashes, in Unicode's NFC."""
    frames: int
    """Number of samples."""
    bytes: int
    """Size of the file in bytes."""
    sha256: str
    """Hash of the samples, little-endian: 16-bit integers, or 32-bit floats for a file of floats. It does not depend on
    the encoder or the version that wrote the file."""


@dataclass(frozen=True)
class Manifest:
    """A whole corpus."""

    corpus: str
    """Name of the corpus, such as ``voicebank``."""
    files: tuple[ManifestEntry, ...]
    """All of its files, ordered by path."""
    source: dict[str, Any] = field(default_factory=dict)
    """What the corpus was made from."""
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Additional information on single files, by path."""

    @property
    def fingerprint(self) -> str:
        """Hash of all paths and samples: equal for equal data."""
        lines = "".join(f"{entry.path} {entry.sha256}\n" for entry in self.files)
        return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()

    def totals(self) -> dict[str, dict[str, float]]:
        """Number and hours of files in each folder."""
        folders: dict[str, list[int]] = defaultdict(list)
        for entry in self.files:
            folders[os.path.dirname(entry.path)].append(entry.frames)
        return {
            folder: {"files": len(frames), "hours": round(sum(frames) / SAMPLE_RATE / 3600, 4)}
            for folder, frames in sorted(folders.items())
        }


def to_pcm16(wave: np.ndarray) -> np.ndarray:
    """Round a waveform in [-1, 1] to 16 bits, float [S] to int16 [S]; values outside are clipped."""
    return np.clip(np.rint(wave * 32_768.0), -32_768, 32_767).astype(np.int16)


def describe(path: Path, root: Path) -> ManifestEntry:
    """Read a file and make its manifest entry.

    Args:
        path: a mono file of 16-bit integers or of floats.
        root: folder of the corpus.

    Raises:
        AudioError: the file cannot be read.
    """
    digest, frames = hashlib.sha256(), 0
    with audio.open_recording(path) as file:
        floats = file.subtype == "FLOAT"
        for block in audio.blocks(path, file, file.frames):
            samples = block[:, 0]
            digest.update((samples.astype("<f4") if floats else to_pcm16(samples).astype("<i2")).tobytes())
            frames += len(samples)
    return ManifestEntry(composed(path.relative_to(root).as_posix()), frames, path.stat().st_size, digest.hexdigest())


def build(
    corpus: str,
    files: Iterable[ManifestEntry],
    source: dict[str, Any],
    details: dict[str, dict[str, Any]] | None = None,
) -> Manifest:
    """Make a manifest, with its files in order."""
    return Manifest(corpus, tuple(sorted(files, key=lambda entry: entry.path)), source, details or {})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def write(root: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into a corpus's folder atomically."""
    versions = {name: _version(name) for name in ("numpy", "soundfile", "soxr", "G722")}
    content = {
        "format": FORMAT,
        "corpus": manifest.corpus,
        "fingerprint": manifest.fingerprint,
        "sample_rate": SAMPLE_RATE,
        "totals": manifest.totals(),
        "source": manifest.source,
        "versions": {"python": platform.python_version(), **versions},
        "files": [asdict(entry) | manifest.details.get(entry.path, {}) for entry in manifest.files],
    }
    temporary = beside(root / NAME)
    try:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        settle(temporary, root / NAME)
    finally:
        temporary.unlink(missing_ok=True)


def read(root: Path) -> Manifest | None:
    """Read the manifest of a corpus.

    Args:
        root: folder of the corpus.

    Returns:
        The manifest, or None where the folder has none.

    Raises:
        UserError: the manifest is damaged or has another format.
    """
    path = root / NAME
    known = set(ManifestEntry.__dataclass_fields__)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserError(f"{path}: format {content['format']}, this version reads {FORMAT}; prepare it anew")
        files, details = [], {}
        for item in content["files"]:
            files.append(ManifestEntry(**{name: item[name] for name in known}))
            if extra := {name: value for name, value in item.items() if name not in known}:
                details[item["path"]] = extra
        manifest = build(content["corpus"], files, content["source"], details)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error!r}); delete the folder and prepare it anew") from error
    if manifest.fingerprint != content.get("fingerprint"):
        raise UserError(f"{path}: its fingerprint is not that of its files; delete the folder and prepare it anew")
    return manifest


def differences(root: Path, files: Sequence[ManifestEntry]) -> list[str]:
    """Compare a corpus's folder with its manifest by existence and size of files, without reading samples.

    Args:
        root: folder of the corpus.
        files: the entries of the expected files.

    Returns:
        A line for each file that is missing or has another size; none where the corpus is complete. Names are compared
        in Unicode's NFC, because copying through macOS may change how accented letters are encoded.
    """
    problems = []
    absent = [entry for entry in files if not (root / entry.path).exists()]
    spelt = {composed(path.relative_to(root).as_posix()): path for path in root.rglob("*")} if absent else {}
    for entry in files:
        path = root / entry.path
        try:
            size = (path if path.exists() else spelt.get(composed(entry.path), path)).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            problems.append(f"{entry.path}: missing")
            continue
        if size != entry.bytes:
            problems.append(f"{entry.path}: {size} bytes, not {entry.bytes}")
    return problems
