"""Audio files in and out: what they hold, the part of them that is asked for, and a write that is whole or absent."""

import io
import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

from cmgan_jax.data.kinds import FOREIGN, NAMED, RECORDINGS
from cmgan_jax.errors import UserError, printable
from cmgan_jax.outputs import remove, settle
from cmgan_jax.temporaries import beside

RATES = (1_000, 768_000)
"""Lowest and highest sample rate in Hz that is believed: another one is a damaged header, and costs hours or memory."""
LOUDEST = 2.0**31
"""Largest magnitude that is believed: that of 32-bit integers stored as floats. Squares of more may overflow."""

_G722_RATE = 16_000
_G722_BITS = 64_000
# About 140 minutes: a corpus of prompts is decoded once, in its first pass.
_G722_CACHE_BYTES = 256 * 2**20
_SUBTYPES = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
# Without a header there is nothing that tells how to read them.
_HEADERLESS = (".g722", ".raw", ".pcm")
# libsndfile reports this many frames where a stream's header does not tell.
_UNKNOWN_FRAMES = 2**62
# A block of all channels at once, so that memory follows what is there and not what a header claims.
_BLOCK_SAMPLES = 2**22
# WAV, AIFF, AU, Wave64 and RF64, in libsndfile's words.
_CUT_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
# Sub-types that can be entered anywhere, to the sample. Others are decoded from their beginning: a frame of MP3 needs
# bits of those before it, and libsndfile cannot seek in some codes of telephony.
_ENTERED = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC", "VORBIS", "OPUS", "IMA_ADPCM", "MS_ADPCM")
# A WAV file written into a pipe claims about 2 or 4 GiB: its writer could not know.
_STREAMED_BYTES = 0x7FFF_0000


class AudioError(UserError):
    """A file that cannot be read or written as audio.

    Attributes:
        path: the file.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{printable(path)}: {reason}")
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


def probe(path: Path) -> AudioInfo:
    """Read a file's header, decoding nothing.

    Args:
        path: a file with one of `RECORDINGS`.

    Returns:
        Its length, rate and channels. A .g722 file has no header: two samples a byte at 16 kHz (ITU-T G.722).

    Raises:
        AudioError: the file is missing, not audio, does not state its length, or states more than it holds.
    """
    if path.suffix.lower() == ".g722":
        with open_regular(path) as file:
            return AudioInfo(2 * os.fstat(file.fileno()).st_size, _G722_RATE, 1)
    with _open(path) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels)


def read(path: Path, start: int = 0, frames: int | None = None) -> np.ndarray:
    """Decode a part of a file.

    Args:
        path: a file with one of `RECORDINGS`.
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
            if start and file.subtype.startswith(_ENTERED):  # A seek searches a FLAC file, also one to where it stands.
                file.seek(start)
            elif start:
                for _ in blocks(path, file, start):
                    pass
        except soundfile.SoundFileError as error:
            raise AudioError(path, f"damaged: {library_reason(error)}") from error
        parts = list(blocks(path, file, wanted))
    mono = [part[:, 0] if part.shape[1] == 1 else part.mean(axis=1) for part in parts]
    return mono[0] if len(mono) == 1 else np.concatenate(mono)


def blocks(path: Path, file: soundfile.SoundFile, frames: int, most: int = _BLOCK_SAMPLES) -> Iterator[np.ndarray]:
    """Decode from where a file stands, in blocks: memory follows what it holds and not what its header claims.

    Args:
        path: what errors name.
        file: open for reading.
        frames: how many to decode.
        most: samples of each channel in a block, at most.

    Yields:
        float32 [S, channels], S of at least 1, `frames` in all.

    Raises:
        AudioError: the file is damaged, or ends before.
    """
    size = max(1, min(most, _BLOCK_SAMPLES // file.channels))
    done = 0
    while done < frames:
        try:
            block = file.read(min(size, frames - done), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise AudioError(path, f"damaged: {library_reason(error)}") from error
        if not len(block):
            raise AudioError(path, f"damaged: {frames} samples promised, {done} found")
        done += len(block)
        yield block


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
    temporary = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Encoded in memory: the library prints a traceback of its own where a file refuses a write.
        encoded = io.BytesIO()
        kind = "VORBIS" if suffix == ".ogg" else subtype
        soundfile.write(encoded, audio, sample_rate, subtype=kind, format=_SUBTYPES[suffix])
        temporary.write_bytes(encoded.getbuffer())
        settle(temporary, path)
    except OSError as error:
        raise system_error(path, error) from error
    except soundfile.SoundFileError as error:
        raise AudioError(path, f"cannot be written: {library_reason(error)}") from error
    finally:
        remove(temporary)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to be read, and nothing that may never answer.

    Raises:
        AudioError: the file system refuses, or this is a folder, a pipe or a device.
    """
    try:
        # A pipe that nobody writes into would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise system_error(path, error) from error
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise AudioError(path, "Is a directory" if stat.S_ISDIR(kind) else "a pipe, socket or device, not a file")


def open_recording(path: Path) -> soundfile.SoundFile:
    """Open a file of any kind that libsndfile reads, by its content.

    Raises:
        AudioError: the file is missing, no regular file, not audio, does not state its length, states more than it
            holds, or a sample rate beyond `RATES`.
    """
    if path.suffix.lower() in _HEADERLESS:
        how = "-f g722 -i" if path.suffix.lower() == ".g722" else "-f s16le -ar RATE -ac CHANNELS -i"
        raise AudioError(
            path,
            f"a {path.suffix} file has no header that says how to read it: convert it, e.g. ffmpeg {how} IN OUT.wav",
        )
    if path.suffix.lower() in FOREIGN:
        raise AudioError(path, f"{path.suffix} files are not read here: convert it, e.g. ffmpeg -i IN OUT.wav")
    with open_regular(path) as regular:
        if os.fstat(regular.fileno()).st_size == 0:
            raise AudioError(path, "empty file (0 bytes)")
        try:
            # Not by its name, which may hold bytes that are no text.
            file = _InOrder(os.dup(regular.fileno()))
        except soundfile.SoundFileError as error:
            raise AudioError(path, f"unreadable: {library_reason(error)}") from error
    problem = implausible(file)
    if problem:
        file.close()
        raise AudioError(path, problem)
    return file


def implausible(file: soundfile.SoundFile) -> str | None:
    """Why a file's header is not to be believed; None where it is."""
    if file.frames >= _UNKNOWN_FRAMES:
        return "its header does not state its length: write it anew, e.g. with sox or ffmpeg"
    if not RATES[0] <= file.samplerate <= RATES[1]:
        return f"sample rate {file.samplerate} Hz, beyond {RATES[0]} to {RATES[1]} Hz: its header is damaged"
    # libsndfile repairs the header of a file that was cut short, and tells only here.
    cut = _CUT_SHORT.search(file.extra_info)
    if cut and int(cut[2]) < int(cut[1]) < _STREAMED_BYTES:
        return f"cut short: {cut[2]} of {cut[1]} bytes of audio are there"
    return None


def system_error(path: Path, error: OSError) -> AudioError:
    """An error of the file system as one of this file."""
    return AudioError(path, error.strerror or str(error))


def library_reason(error: soundfile.SoundFileError) -> str:
    """What libsndfile says, without the file's name."""
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.removeprefix("Error : ").rstrip(".")


class _InOrder(soundfile.SoundFile):
    """A file whose reads follow one another: soundfile seeks after each read otherwise, which spoils MP3 after it."""

    def seekable(self) -> bool:
        """Whether soundfile shall set the place after each read; `seek` works all the same."""
        return False


def _open(path: Path) -> soundfile.SoundFile:
    if path.suffix.lower() not in NAMED:
        raise AudioError(path, f"not a kind of file that is read here ({' '.join(RECORDINGS)})")
    return open_recording(path)


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
    with open_regular(path) as file:
        found = os.fstat(file.fileno())
        # The modification time is part of the key: a file that was replaced is decoded anew.
        key = (path, found.st_mtime_ns, found.st_size)
        audio = _g722_cache.get(key)
        if audio is None:
            try:
                content = file.read()
            except OSError as error:
                raise system_error(path, error) from error
            from G722 import G722  # here alone: few have such files

            audio = np.asarray(G722(_G722_RATE, _G722_BITS).decode(content), np.int16)
            _g722_cache.put(key, audio)
        return audio
