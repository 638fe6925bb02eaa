"""Reading and writing of audio files: length, rate and channels, partial decoding, and atomic writes."""

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

from cmgan_jax.data import g722
from cmgan_jax.data.containers.parts import COPY_AGAIN
from cmgan_jax.data.folders import FOREIGN, NAMED, RECORDINGS
from cmgan_jax.data.recording import RATES, AudioError, Recording, library_reason, system_error
from cmgan_jax.system.outputs import remove, settle
from cmgan_jax.system.temporaries import beside

__all__ = (
    "LOUDEST", "RATES", "AudioError", "AudioInfo", "Recording", "beside", "blocks", "library_reason",
    "open_recording", "open_regular", "open_stream", "probe", "read", "system_error", "write",
)  # fmt: skip

LOUDEST = 2.0**31
"""Largest magnitude accepted: that of 32-bit integers stored as floats. Squares of larger values may overflow."""

_SUBTYPES = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
# Files without a header: nothing in them tells how to decode them.
_HEADERLESS = (".g722", ".raw", ".pcm")
# Samples in a block, all channels together, so that memory depends on the real content and not on the header's claim.
_BLOCK_SAMPLES = 2**22


class AudioInfo(NamedTuple):
    """Length, rate and channels of an audio file."""

    frames: int
    """Samples in each channel."""
    sample_rate: int
    """Samples per second."""
    channels: int
    """Number of channels."""


def probe(path: Path) -> AudioInfo:
    """Find a file's length, rate and channels without decoding it.

    Args:
        path: a file with one of `RECORDINGS`.

    Returns:
        Length, rate and channels of the real content, even where the header says otherwise. A .g722 file has no header;
        it is taken to have two samples per byte at 16 kHz (ITU-T G.722).

    Raises:
        AudioError: the file is missing, not audio, cut short, damaged, or cannot be read as one recording.
    """
    if path.suffix.lower() == ".g722":
        with open_regular(path) as file:
            return AudioInfo(g722.samples(file), g722.RATE, 1)
    with _open(path) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels)


def read(path: Path, start: int = 0, frames: int | None = None) -> np.ndarray:
    """Decode a part of a file.

    Args:
        path: a file with one of `RECORDINGS`.
        start: first sample.
        frames: number of samples to decode; None decodes all that follow.

    Returns:
        float32 [S], nominally in [-1, 1] (float files may exceed it); channels are averaged. S is less than `frames`
        where the file ends early, and 0 where it ends before `start`.

    Raises:
        AudioError: the file is missing, not audio, or damaged in the part asked for.
    """
    if path.suffix.lower() == ".g722":
        stop = None if frames is None else start + frames
        with open_regular(path) as file:
            try:
                return g722.decode(path, file)[start:stop].astype(np.float32) / 32_768.0
            except OSError as error:
                raise system_error(path, error) from error
    with _open(path) as file:
        left = max(file.frames - start, 0)
        wanted = left if frames is None else min(frames, left)
        if wanted == 0:
            return np.zeros(0, np.float32)
        file.seek(start)
        parts = list(blocks(path, file, wanted))
    mono = [part[:, 0] if part.shape[1] == 1 else part.mean(axis=1) for part in parts]
    return mono[0] if len(mono) == 1 else np.concatenate(mono)


def blocks(path: Path, file: Recording, frames: int, most: int = _BLOCK_SAMPLES) -> Iterator[np.ndarray]:
    """Decode in blocks from the current position, so that memory depends on the content and not on the header.

    Args:
        path: the path that errors name.
        file: the recording, open for reading.
        frames: number of samples to decode.
        most: maximum number of samples per channel in a block.

    Yields:
        float32 [S, channels], S at least 1, `frames` samples in total.

    Raises:
        AudioError: the file is damaged, or ends early.
    """
    size = max(1, min(most, _BLOCK_SAMPLES // file.channels))
    done = 0
    while done < frames:
        block = file.read(min(size, frames - done))
        if not len(block):
            raise AudioError(path, f"damaged or cut short: {done} of {frames} samples can be decoded; {COPY_AGAIN}")
        done += len(block)
        yield block


def write(path: Path, audio: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write a mono file atomically: a temporary file beside it is renamed when it is complete.

    Args:
        path: a .wav, .flac or .ogg file (always Vorbis); missing folders are created.
        audio: float [S]; values beyond [-1, 1] are clipped by integer subtypes.
        sample_rate: samples per second.
        subtype: libsndfile's name of the sample format.

    Raises:
        AudioError: the suffix is not supported, or the file system refuses.
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
        # Encoded in memory first: libsndfile prints a traceback of its own where a file refuses a write.
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
    """Open a regular file for reading; anything that could block forever is refused.

    Raises:
        AudioError: the file system refuses, or the path is a folder, a pipe or a device.
    """
    try:
        # Opening a pipe without a writer would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise system_error(path, error) from error
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise AudioError(path, "Is a directory" if stat.S_ISDIR(kind) else "a pipe, socket or device, not a file")


def open_recording(path: Path) -> Recording:
    """Open a file of any kind that libsndfile reads, by its content.

    Raises:
        AudioError: the file is missing, no regular file, not audio, cut short, damaged, or holds what cannot be read
            as one recording.
    """
    if path.suffix.lower() in _HEADERLESS:
        how = "-f g722 -i" if path.suffix.lower() == ".g722" else "-f s16le -ar RATE -ac CHANNELS -i"
        raise AudioError(
            path,
            f"a {path.suffix} file has no header that says how to read it: convert it, e.g. ffmpeg {how} IN OUT.wav",
        )
    if path.suffix.lower() in FOREIGN:
        raise AudioError(path, f"{path.suffix} files are not read here: convert it, e.g. ffmpeg -i IN OUT.wav")
    return open_stream(path, open_regular(path))


def open_stream(path: Path, stream: BinaryIO) -> Recording:
    """Open a recording from a stream, e.g. within an archive or in memory.

    Args:
        path: the path that errors name.
        stream: a seekable stream; it is closed with the recording.

    Raises:
        AudioError: see `open_recording`.
    """
    return Recording(path, stream)


def _open(path: Path) -> Recording:
    if path.suffix.lower() not in NAMED:
        raise AudioError(path, f"not a kind of file that is read here ({' '.join(RECORDINGS)})")
    return open_recording(path)
