"""A corpus: its clips and pairs, their division into training and validation, and its identifying fingerprint."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple
from unicodedata import normalize

from cmgan_jax.data.audio import AudioError
from cmgan_jax.data.folders import count_text
from cmgan_jax.errors import UserError, printable

_SHOWN_SPEAKERS = 5
"""Number of speakers that are named in messages."""

Kind = Literal["paired", "mixed"]


@dataclass(frozen=True)
class CorpusSource:
    """The corpus that the user named: one folder, or lists of folders of speech and of noise."""

    data: Path | None = None
    """A folder in one of the layouts of `layout.py`."""
    speech: tuple[Path, ...] = ()
    """Folders of clean speech, to be mixed with `noise` on the fly."""
    noise: tuple[Path, ...] = ()
    """Folders of noise."""

    def __str__(self) -> str:
        return str(self.data) if self.data else ", ".join(map(str, self.speech + self.noise))


@dataclass(frozen=True)
class Clip:
    """A file of clean speech or of noise."""

    name: str
    """Path below the source folder, without the suffix."""
    path: Path
    frames: int
    """Number of samples; 0 until the file has been measured."""
    speaker: str
    """The speaker; clips of one speaker are all in training or all in validation."""
    finer: tuple[str, ...] = ()
    """Finer speaker labels (`sources.labels`), for a corpus in which `speaker` distinguishes too few speakers."""
    contents: tuple[str, ...] = ()
    """Identifiers of the samples (`identity.content`); empty until the file has been read."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The clip's file."""
        return (self.path,)


@dataclass(frozen=True)
class Pair:
    """A clean file and its noisy version, of equal length."""

    name: str
    """Path below the clean folder, without the suffix; the noisy file has the same path below its folder."""
    clean: Path
    noisy: Path
    frames: int
    """Number of samples in each file; 0 until the files have been measured."""
    speaker: str
    """The speaker; pairs of one speaker are all in training or all in validation."""
    finer: tuple[str, ...] = ()
    """Finer speaker labels (`sources.labels`), for a corpus in which `speaker` distinguishes too few speakers."""
    contents: tuple[str, ...] = ()
    """Identifiers of the samples of each file (`identity.content`); empty until the files have been read."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The clean file and the noisy one."""
        return (self.clean, self.noisy)


class Stamp(NamedTuple):
    """File attributes that change when a file is written: size in bytes, modification time in nanoseconds."""

    size: int
    written: int


class Problem(NamedTuple):
    """A reason why a file cannot be used."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


@dataclass(frozen=True)
class Corpus:
    """Checked files, divided into disjoint training and validation parts.

    Attributes:
        kind: `paired`: `train` holds pairs. `mixed`: `speech` and `noise` are mixed on the fly.
        sample_rate: samples per second of every file.
        train: training pairs.
        speech: training speech clips.
        noise: training noise clips.
        validation: held-out pairs, or held-out speech that is mixed with `validation_noise`.
        validation_noise: held-out noise; empty where `validation` holds pairs.
        test: pairs of the test set, never trained on.
        skipped: files left out because of a problem.
        fingerprint: SHA-256 in hex over every file's relative path, content and samples, and over the manifest.
        earlier_fingerprint: the same with each file's size in place of its content, as earlier versions recorded it.
        hold_out: how the held-out part was chosen.
        notes: remarks for the user on the division.
        stamps: `stamp` of each training and validation file at the time of the check.
        passed_over: number of other files that are not recordings, by suffix (see `folders.FolderListing`).
    """

    kind: Kind
    sample_rate: int
    train: tuple[Pair, ...]
    speech: tuple[Clip, ...]
    noise: tuple[Clip, ...]
    validation: tuple[Pair, ...] | tuple[Clip, ...]
    validation_noise: tuple[Clip, ...]
    test: tuple[Pair, ...]
    skipped: tuple[Problem, ...]
    fingerprint: str
    earlier_fingerprint: str = ""
    hold_out: str = ""
    notes: tuple[str, ...] = ()
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def division(self) -> str:
        """SHA-256 in hex over the names of the training and validation files, each part in its order."""
        parts = (self.train, self.speech, self.noise, self.validation, self.validation_noise)
        names = "\n\n".join("\n".join(item.name for item in part) for part in parts)
        return hashlib.sha256(normalize("NFC", names).encode(errors="surrogateescape")).hexdigest()

    @property
    def sizes(self) -> tuple[str, ...]:
        """Number and duration of each part, as shown to the user: the first words of lines of `describe`."""
        return sizes(self.describe())

    @property
    def items(self) -> tuple[Pair, ...] | tuple[Clip, ...]:
        """The items of one training epoch: pairs, or speech clips."""
        return self.train if self.kind == "paired" else self.speech

    @property
    def train_hours(self) -> float:
        """Hours of clean speech for training."""
        return self._hours(self.items)

    @property
    def noise_hours(self) -> float:
        """Hours of noise for training; 0 for a paired corpus."""
        return self._hours(self.noise)

    @property
    def validation_hours(self) -> float:
        """Hours of held-out clean speech."""
        return self._hours(self.validation)

    def _hours(self, items: Iterable[Pair | Clip]) -> float:
        return sum(item.frames for item in items) / self.sample_rate / 3600

    def describe(self) -> str:
        """Describe the corpus in a few lines for the user."""
        lines = [f"training:   {_summary(self.items, self.train_hours)}"]
        if self.noise:
            lines.append(f"noise:      {plural(len(self.noise), 'file')}, {_duration(self.noise_hours)}")
        lines.append(f"validation: {_summary(self.validation, self.validation_hours)}")
        if self.validation_noise:
            lines[-1] += f", mixed with {plural(len(self.validation_noise), 'held-out noise file')}"
        lines += [f"hold-out:   {self.hold_out}", f"speakers:   {_told(*self.items, *self.validation)}"]
        if self.skipped:
            lines.append(f"skipped:    {plural(len({p.path for p in self.skipped}), 'bad file')}")
        if self.passed_over:
            lines.append(f"no audio:   {count_text(self.passed_over)} passed over")
        lines += [f"note:       {note}" for note in self.notes]
        return "\n".join([*lines, f"fingerprint {self.fingerprint[:16]}"])

    def summary(self) -> dict[str, str | int | float]:
        """Counts, hours and the fingerprint as plain values, for the run's record."""
        return {
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "train_items": len(self.items),
            "train_hours": round(self.train_hours, 4),
            "noise_files": len(self.noise),
            "noise_hours": round(self.noise_hours, 4),
            "validation_items": len(self.validation),
            "validation_hours": round(self.validation_hours, 4),
            "skipped_files": len({p.path for p in self.skipped}),
        }


def sizes(description: str) -> tuple[str, ...]:
    """Extract number and duration of each part of a corpus from the text of `Corpus.describe`."""
    parts = ("training:", "noise:", "validation:")
    return tuple(", ".join(line.split(", ")[:2]) for line in description.splitlines() if line.startswith(parts))


def stamp(path: Path) -> Stamp:
    """Return the current stamp of a file.

    Raises:
        AudioError: the file does not exist.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise AudioError(path, error.strerror or str(error)) from error
    return Stamp(status.st_size, status.st_mtime_ns)


def fingerprint(files: Iterable[tuple[str, str | int, int]], manifest: Path | None) -> str:
    """Compute an identifier of a corpus that does not depend on its location.

    Args:
        files: for each file: its path below the corpus, with forward slashes; the SHA-256 of its bytes; its number of
            samples.
        manifest: a file whose bytes are included too; it may be None or absent.

    Returns:
        SHA-256 in hex; it changes when a file is added, removed, renamed or modified.

    Raises:
        UserError: the manifest cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for relative, content, frames in sorted(files):
            digest.update(f"{relative}\0{content}\0{frames}\n".encode(errors="surrogateescape"))
        if manifest is not None and manifest.is_file():
            digest.update(hashlib.sha256(manifest.read_bytes()).digest())
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}, while the corpus was being read") from error
    return digest.hexdigest()


def _summary(items: tuple[Pair, ...] | tuple[Clip, ...], hours: float) -> str:
    speakers = sorted({item.speaker for item in items})
    who = speakers[0] if len(speakers) == 1 else f"{len(speakers)} speakers"
    kind = "pair" if items and isinstance(items[0], Pair) else "speech clip"
    return f"{plural(len(items), kind)}, {_duration(hours)}, {who}"


def _told(*items: Pair | Clip) -> str:
    """Name what was taken for speakers, those with the most files first."""
    files = Counter(item.speaker for item in items).most_common()
    shown = [f"{speaker} ({plural(count, 'file')})" for speaker, count in files[:_SHOWN_SPEAKERS]]
    more = len(files) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.1f} s"


def plural(count: int, thing: str) -> str:
    """Format a count for the user: "1 file", "2,761 files"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
