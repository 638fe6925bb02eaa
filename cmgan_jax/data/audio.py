"""Audio files in and out: what they hold, the part of them that is asked for, and a write that is whole or absent."""

import os
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from G722 import G722

from cmgan_jax.errors import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".g722")
"""Files that count as audio, by their lower-case suffix."""

_G722_RATE = 16_000
_G722_BITS = 64_000
# About 140 minutes: a corpus of prompts is decoded once, in its first pass.
_G722_CACHE_BYTES = 256 * 2**20
_SUBTYPES = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
# libsndfile reports this many frames where a stream's header does not tell.
_UNKNOWN_FRAMES = 2**62
_CUT_SHORT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# A WAV file written into a pipe claims about 2 or 4 GiB: its writer could not know.
_STREAMED_BYTES = 0x7FFF_0000


class AudioError(UserError):
    """A file that cannot be read or written as audio.

    Attributes:
        path: the file.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class AudioInfo(NamedTuple):
    """What a file says of itself."""

    frames: int
    """Samples in each channel."""
    sample_rate: int
    """Samples per second."""
    channels: int
    """Channels."""


def is_audio(path: Path) -> bool:
    """Whether a file's suffix is one of `SUFFIXES`, in any case; hidden files are not audio."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def probe(path: Path) -> AudioInfo:
    """Read a file's header, decoding nothing.

    Args:
        path: a file with one of `SUFFIXES`.

    Returns:
        Its length, rate and channels. A .g722 file has no header: two samples a byte at 16 kHz (ITU-T G.722).

    Raises:
        AudioError: the file is missing, not audio, does not state its length, or states more than it holds.
    """
    if path.suffix.lower() == ".g722":
        try:
            return AudioInfo(2 * path.stat().st_size, _G722_RATE, 1)
        except OSError as error:
            raise _system_error(path, error) from error
    with _open(path) as file:
        # libsndfile repairs the header of a WAV file that was cut short, and tells only here.
        cut = _CUT_SHORT.search(file.extra_info)
        if cut and int(cut[2]) < int(cut[1]) < _STREAMED_BYTES:
            raise AudioError(path, f"cut short: {cut[2]} of {cut[1]} bytes of audio are there")
        return AudioInfo(file.frames, file.samplerate, file.channels)


def read(path: Path, start: int = 0, frames: int | None = None) -> np.ndarray:
    """Decode a part of a file.

    Args:
        path: a file with one of `SUFFIXES`.
        start: first sample.
        frames: samples to decode; None: all that follow.

    Returns:
        float32 [S], nominally in [-1, 1] (float files may exceed it); channels are averaged. S is less than
        `frames` where the file ends before, 0 where it ends before `start`.

    Raises:
        AudioError: the file is missing, not audio, or damaged in the part asked for.
    """
    if path.suffix.lower() == ".g722":
        stop = None if frames is None else start + frames
        return _decode_g722(path)[start:stop].astype(np.float32) / 32_768.0
    with _open(path) as file:
        left = max(file.frames - start, 0)
        wanted = left if frames is None else min(frames, left)
        if wanted == 0:
            return np.zeros(0, np.float32)
        try:
            file.seek(start)
            audio = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise AudioError(path, f"damaged: {_library_reason(error)}") from error
    if len(audio) != wanted:
        raise AudioError(path, f"damaged: {wanted} samples promised from {start} on, {len(audio)} found")
    return audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1)


def write(path: Path, audio: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write a mono file whole or not at all: a temporary neighbour takes the file's name when it is complete.

    Args:
        path: .wav, .flac or .ogg (always Vorbis); missing folders are made.
        audio: float [S]; values beyond [-1, 1] are clipped by integer subtypes.
        sample_rate: samples per second.
        subtype: libsndfile's name of the sample format.

    Raises:
        AudioError: the suffix cannot be written, or the file system refuses.
        ValueError: the audio is not one-dimensional and finite.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUBTYPES:
        raise AudioError(path, f"cannot be written: choose one of {', '.join(_SUBTYPES)}")
    if audio.ndim != 1 or not np.isfinite(audio).all():
        raise ValueError(f"audio for {path} must be [S] and finite, its shape is {list(audio.shape)}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            soundfile.write(
                file,
                audio,
                sample_rate,
                subtype="VORBIS" if suffix == ".ogg" else subtype,
                format=_SUBTYPES[suffix],
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _system_error(path, error) from error
    except soundfile.SoundFileError as error:
        raise AudioError(path, f"cannot be written: {_library_reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _open(path: Path) -> soundfile.SoundFile:
    if path.suffix.lower() not in SUFFIXES:
        raise AudioError(path, f"not a kind of file that is read here ({' '.join(SUFFIXES)})")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.SoundFileError as error:
        raise AudioError(path, _why_not_opened(path) or f"unreadable: {_library_reason(error)}") from error
    if file.frames >= _UNKNOWN_FRAMES:
        file.close()
        raise AudioError(path, "its header does not state its length: write it anew, e.g. with sox or ffmpeg")
    return file


def _why_not_opened(path: Path) -> str | None:
    """The file system's words: libsndfile has "System error" for all of them, and no word for an empty file."""
    try:
        with open(path, "rb"):
            return "empty file (0 bytes)" if path.stat().st_size == 0 else None
    except OSError as error:
        return error.strerror or str(error)


def _system_error(path: Path, error: OSError) -> AudioError:
    return AudioError(path, error.strerror or str(error))


def _library_reason(error: soundfile.SoundFileError) -> str:
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.removeprefix("Error : ").rstrip(".")


class _ByteBoundedCache:
    """The most recently used decoded files, up to a number of bytes; safe to share between threads."""

    def __init__(self, limit: int):
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[Path, int, int], np.ndarray] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[Path, int, int]) -> np.ndarray | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: tuple[Path, int, int], audio: np.ndarray) -> None:
        with self._lock:
            if key in self._held or audio.nbytes > self._limit:
                return
            self._held[key] = audio
            self._bytes += audio.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._held.popitem(last=False)[1].nbytes


_g722_cache = _ByteBoundedCache(_G722_CACHE_BYTES)


def _decode_g722(path: Path) -> np.ndarray:
    """The whole file as int16 [S]: the decoder adapts as it goes, so that no part stands alone."""
    try:
        stat = path.stat()
        # The modification time is part of the key: a file that was replaced is decoded anew.
        key = (path, stat.st_mtime_ns, stat.st_size)
        audio = _g722_cache.get(key)
        if audio is None:
            audio = np.asarray(G722(_G722_RATE, _G722_BITS).decode(path.read_bytes()), np.int16)
            _g722_cache.put(key, audio)
        return audio
    except OSError as error:
        raise _system_error(path, error) from error
