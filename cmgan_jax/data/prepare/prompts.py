"""Recorded prompts from Debian's Asterisk packages: downloaded without root, decoded and trimmed."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmgan_jax.data import audio

SAMPLE_RATE = 16_000
MINIMUM_SECONDS = 1.0
"""Minimum length of a trimmed prompt in seconds; most shorter ones are single digits and letters."""

_CONNECT_SECONDS = 3
_FETCH_SECONDS = 150  # enough for 20 MB over a slow line
_LISTS_SECONDS = 60
# The only file of at least a second that is neither speech nor silence.
_NOT_SPEECH = ("tt-monkeys",)
_SILENCE = 10 ** (-50 / 20)


@dataclass(frozen=True)
class PromptSource:
    """A package with the prompts of one voice.

    Attributes:
        speaker: name of the voice's folder.
        package: Debian package.
        licence: licence and author, as the package's copyright file gives them.
    """

    speaker: str
    package: str
    licence: str


SOURCES = (
    PromptSource(
        "en",
        "asterisk-core-sounds-en-g722",
        "CC BY-SA 3.0, copyright 2003-2010 Allison Smith (http://www.theivrvoice.com), Digium, Inc.",
    ),
    PromptSource(
        "it",
        "asterisk-core-sounds-it-g722",
        "CC BY 3.0, copyright 2012 Carlo Flora (http://www.carloflora.com)",
    ),
)


class PromptsUnavailableError(Exception):
    """The packages are not available here; the message says why."""


@dataclass(frozen=True)
class Voice:
    """The utterances of one speaker.

    Attributes:
        speaker: name of the voice's folder.
        utterances: waveforms [S], float32 at 16 kHz, by name.
        copyright: the text that must accompany copies of the recordings.
    """

    speaker: str
    utterances: dict[str, np.ndarray]
    copyright: str


def fetch_prompts(folder: Path) -> tuple[Voice, ...]:
    """Download, unpack and decode the packages.

    This needs Debian or Ubuntu with `apt-get` and `dpkg`, but not root. The system's package lists are used if they
    contain the packages, otherwise lists are downloaded into `folder`; nothing outside it changes.

    Args:
        folder: an existing folder for temporary files.

    Returns:
        One voice for each of `SOURCES`.

    Raises:
        PromptsUnavailableError: there is no apt, no network, or no such package.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise PromptsUnavailableError(f"{tool} is not on this system")
    # The tools run inside the folder, so a relative path would mean something else.
    folder = folder.resolve()
    packages = [source.package for source in SOURCES]
    try:
        _apt(["download", *packages], folder, _FETCH_SECONDS)
    except PromptsUnavailableError:
        if _listed(packages, folder):
            raise
        # A fresh container has no package lists; these go into the folder, so that no root is needed.
        private = _private_lists(folder)
        _apt([*private, "update"], folder, _LISTS_SECONDS)
        _apt([*private, "download", *packages], folder, _FETCH_SECONDS)
    return tuple(_unpack(source, folder) for source in SOURCES)


def _apt(arguments: Sequence[str], folder: Path, seconds: float) -> None:
    timeouts = [f"Acquire::{scheme}::Timeout={_CONNECT_SECONDS}" for scheme in ("http", "https")]
    options = [part for option in (*timeouts, "Acquire::Retries=0") for part in ("-o", option)]
    # An update that reaches no mirror gives only a warning unless apt is told to fail.
    options += ["-o", "APT::Update::Error-Mode=any"]
    _call(["apt-get", "-qq", *options, *arguments], folder, seconds)


def _call(command: Sequence[str], folder: Path, seconds: float) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise PromptsUnavailableError(f"{command[0]} took more than {seconds:.0f} s") from error
    except OSError as error:
        raise PromptsUnavailableError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg"))]
        reason = (lines or done.stderr.splitlines() or [f"exit status {done.returncode}"])[0]
        raise PromptsUnavailableError(f"{command[0]}: {reason.removeprefix('E: ')}")


def _listed(packages: Sequence[str], folder: Path) -> bool:
    """Whether the system's package lists contain all of these packages."""
    try:
        _call(["apt-cache", "show", "--no-all-versions", *packages], folder, _LISTS_SECONDS)
    except PromptsUnavailableError:
        return False
    return True


def _private_lists(folder: Path) -> list[str]:
    """Return apt options that keep its lists and caches in `folder`."""
    directories = {"Dir::State": "state", "Dir::State::Lists": "state/lists", "Dir::Cache": "cache"}
    options = ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User="]
    for name, part in directories.items():
        place = folder / "apt" / part
        (place / "partial").mkdir(parents=True, exist_ok=True)
        options += ["-o", f"{name}={place}"]
    return options


def _unpack(source: PromptSource, folder: Path) -> Voice:
    package = next(iter(sorted(folder.glob(f"{source.package}_*.deb"))), None)
    if package is None:
        raise PromptsUnavailableError(f"apt-get left no {source.package}_*.deb")
    unpacked = folder / source.speaker
    _call(["dpkg", "-x", str(package), str(unpacked)], folder, _LISTS_SECONDS)
    sounds = unpacked / "usr/share/asterisk/sounds"
    paths = sorted(path for path in sounds.rglob("*.g722") if path.stem not in _NOT_SPEECH)
    with ThreadPoolExecutor() as pool:
        waves = list(pool.map(audio.read, paths))
    utterances = {}
    for path, wave in zip(paths, waves, strict=True):
        trimmed = trim(wave)
        if len(trimmed) >= MINIMUM_SECONDS * SAMPLE_RATE:
            # en_US_f_Allison/digits/19.g722 is named digits-19.
            name = "-".join(path.relative_to(sounds).with_suffix("").parts[1:])
            utterances[name] = trimmed
    if not utterances:
        raise PromptsUnavailableError(f"{source.package} holds no prompts")
    return Voice(source.speaker, utterances, _licence(source, unpacked))


def trim(wave: np.ndarray, keep: float = 0.1, below: float = 40.0) -> np.ndarray:
    """Trim silence at both ends.

    Args:
        wave: [S] at 16 kHz.
        keep: seconds of silence to leave at each end.
        below: threshold of silence, in dB below the level of loud frames (95th percentile of 20 ms frames).

    Returns:
        The trimmed waveform [S']; empty if all of it is silence.
    """
    frame = SAMPLE_RATE // 50
    count = len(wave) // frame
    if count == 0:
        return wave[:0]
    levels = np.sqrt(np.mean(wave[: count * frame].reshape(count, frame) ** 2, axis=1))
    loud = np.percentile(levels, 95)
    if loud < _SILENCE:
        return wave[:0]
    heard = np.flatnonzero(levels > loud * 10 ** (-below / 20))
    margin = round(keep * SAMPLE_RATE)
    return wave[max(0, heard[0] * frame - margin) : (heard[-1] + 1) * frame + margin]


def _licence(source: PromptSource, unpacked: Path) -> str:
    """Return the package's own copyright file, below a line that says what it refers to."""
    head = f"speech/{source.speaker}, and validation files of that voice: Debian package {source.package}\n"
    head += f"{source.licence}; decoded from G.722, trimmed, and for validation mixed with noise\n"
    path = unpacked / "usr/share/doc" / source.package / "copyright"
    return head + (f"\n{path.read_text(encoding='utf-8', errors='replace')}" if path.is_file() else "")
