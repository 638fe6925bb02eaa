"""Conversion of a recording of any rate, format and channel count to a mono WAV file at 16 kHz, in bounded memory.

Levels are kept and nothing is clipped: a file is stored in 16 bits where these hold its samples, and as 32-bit floats
where it exceeds full scale or is so quiet that rounding to 16 bits would be audible. Channels are averaged; other rates
are resampled by soxr (VHQ). A file that already has 16 bits, one channel and 16 kHz keeps its samples bit for bit.
"""

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from cmgan_jax.data import audio
from cmgan_jax.data.audio import AudioError
from cmgan_jax.data.manifest import SAMPLE_RATE, to_pcm16

BLOCK_SECONDS = 10.0
"""Seconds of audio decoded at a time."""
QUIET = 10 ** (-50 / 20)
"""Root mean square below which 16 bits are too coarse: their rounding noise lies at -101 dB of full scale, 50 dB
below."""
SILENT_SPAN = 4 / 32_768
"""A file whose samples span at most four 16-bit steps contains only an offset and dither."""
LEVELS_APART = 40.0
"""Maximum level difference in decibels between a noisy file and its clean partner, either way."""
LAG_SECONDS = 30.0
"""Seconds of a pair that are compared to find a time shift between its files."""

_SMALLEST_LAG = SAMPLE_RATE // 100  # 10 ms: a shorter lag may be the sound's path of 3.4 m to a second microphone
_ALIKE = 0.5  # minimum correlation at which a time shift is believed
_LESS = 0.7  # the correlation without the shift must be at most this share of it
_LARGEST = 2**32 - 2**12  # maximum bytes of samples in a WAV file


@dataclass(frozen=True)
class Signal:
    """Properties of a decoded recording.

    Attributes:
        rate: samples per second of the source.
        channels: number of channels of the source.
        source_frames: samples of each channel of the source.
        frames: samples at 16 kHz.
        peak: largest magnitude at 16 kHz.
        rms: root mean square at 16 kHz.
        exact: whether the source's samples are 16-bit and neither mixed nor resampled.
    """

    rate: int
    channels: int
    source_frames: int
    frames: int
    peak: float
    rms: float
    exact: bool

    @property
    def floats(self) -> bool:
        """Whether it must be stored as floats, because 16 bits cannot hold it."""
        return self.peak > 1.0 or (self.rms < QUIET and not self.exact)


def decode(source: Path, raw: Path) -> Signal:
    """Decode a recording, average its channels and resample it to 16 kHz.

    Args:
        source: a file of any supported format.
        raw: the file to write, of 32-bit floats without a header.

    Raises:
        AudioError: the recording cannot be read, is empty, damaged, not finite or silent.
        OSError: `raw` cannot be written.
    """
    frames = source_frames = 0
    power = 0.0
    low, high = math.inf, -math.inf
    with _open(source) as (rate, channels, exact, blocks), _named(raw), open(raw, "wb") as file:
        resample = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32", "VHQ")

        def keep(samples: np.ndarray) -> None:
            nonlocal frames, power, low, high
            if samples.size:
                frames += samples.size
                power += float(np.sum(np.square(samples, dtype=np.float64)))
                low, high = min(low, float(samples.min())), max(high, float(samples.max()))
                file.write(samples.astype("<f4").tobytes())

        for block in blocks:
            # Not written as `>`, so that NaN is refused too.
            bad = np.argwhere(~(np.abs(block) <= audio.LOUDEST))
            if bad.size:
                raise AudioError(
                    source, f"sample {source_frames + bad[0, 0]} is {block[*bad[0]]:.1e}, which is no sound"
                )
            source_frames += len(block)
            mono = np.ascontiguousarray(block.mean(axis=1) if channels > 1 else block[:, 0])
            keep(resample.resample_chunk(mono) if resample else mono)
        if resample:
            keep(resample.resample_chunk(np.zeros(0, np.float32), last=True))
    if not frames:
        raise AudioError(source, "empty: no samples")
    if high - low <= SILENT_SPAN:
        mixed = f" in the mean of its {channels} channels" if channels > 1 else ""
        raise AudioError(source, f"silent: no sound from beginning to end{mixed}")
    exact = exact and channels == 1 and resample is None
    return Signal(rate, channels, source_frames, frames, max(-low, high), math.sqrt(power / frames), exact)


def mismatch(clean: Signal, noisy: Signal, clean_raw: Path, noisy_raw: Path) -> str | None:
    """Say why two decoded files cannot be a pair, in words about the noisy one; None where they can."""
    if clean.frames != noisy.frames:
        reason = f"{noisy.frames} samples at 16 kHz, but its clean partner has {clean.frames}"
        if clean.source_frames == noisy.source_frames:
            rates = f"{noisy.rate} and {clean.rate} Hz"
            return f"{reason}: both hold {noisy.source_frames} samples, at {rates}; one of the rates is wrong"
        return f"{reason}: cut both to one length"
    decibels = 20 * math.log10(noisy.rms / clean.rms)
    if abs(decibels) > LEVELS_APART:
        return f"{decibels:+.0f} dB against its clean partner: store both at one scale (floats belong within ±1)"
    shift = lag(*(np.fromfile(raw, "<f4", round(LAG_SECONDS * SAMPLE_RATE)) for raw in (clean_raw, noisy_raw)))
    if shift:
        return f"{abs(shift) / SAMPLE_RATE:.3f} s {'behind' if shift > 0 else 'ahead of'} its clean partner: align them"
    return None


def lag(clean: np.ndarray, noisy: np.ndarray) -> int:
    """Return by how many samples a noisy signal lags its clean one; 0 unless their correlation is unambiguous.

    Args:
        clean: float [S].
        noisy: float [S].
    """
    size = 1 << (2 * clean.size - 1).bit_length()
    spectra = np.fft.rfft(noisy, size) * np.conj(np.fft.rfft(clean, size))
    likeness = np.abs(np.fft.irfft(spectra, size))
    scale = float(np.linalg.norm(clean.astype(np.float64)) * np.linalg.norm(noisy.astype(np.float64)))
    best = int(np.argmax(likeness))
    if likeness[best] < _ALIKE * scale or likeness[0] > _LESS * likeness[best]:
        return 0
    shift = best if best <= size // 2 else best - size
    return shift if abs(shift) >= _SMALLEST_LAG else 0


def write_wav(raw: Path, target: Path, signal: Signal) -> None:
    """Write decoded samples as a WAV file.

    Args:
        raw: the file that `decode` wrote.
        target: the file to write; it is on the disk when this returns.
        signal: the result of `decode`.

    Raises:
        AudioError: the recording is too long for a WAV file.
        OSError: the file cannot be written.
    """
    width = 4 if signal.floats else 2
    size = signal.frames * width
    if size > _LARGEST:
        hours = _LARGEST / width / SAMPLE_RATE / 3600
        raise AudioError(target, f"longer than a WAV file can be ({hours:.0f} h): split the recording")
    kind = struct.pack("<HHIIHH", 3 if signal.floats else 1, 1, SAMPLE_RATE, width * SAMPLE_RATE, width, 8 * width)
    # WAV files of floats have to state the number of samples a second time.
    fact = b"fact" + struct.pack("<II", 4, signal.frames) if signal.floats else b""
    content = b"WAVEfmt " + struct.pack("<I", len(kind)) + kind + fact + b"data" + struct.pack("<I", size)
    with _named(target), open(raw, "rb") as source, open(target, "wb") as file:
        file.write(b"RIFF" + struct.pack("<I", len(content) + size) + content)
        while chunk := source.read(4 * 2**20):
            samples = np.frombuffer(chunk, "<f4")
            file.write(chunk if signal.floats else to_pcm16(samples).astype("<i2").tobytes())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _open(source: Path) -> Iterator[tuple[int, int, bool, Iterator[np.ndarray]]]:
    """Open a recording; yield its rate, channels, whether it has 16 bits, and its blocks, float32 [S, channels]."""
    if source.suffix.lower() == ".g722":
        info = audio.probe(source)
        yield info.sample_rate, info.channels, True, iter([audio.read(source)[:, None]])
        return
    with audio.open_recording(source) as file:
        exact = file.subtype in ("PCM_16", "PCM_S8", "PCM_U8")
        blocks = audio.blocks(source, file, file.frames, round(BLOCK_SECONDS * file.samplerate))
        yield file.samplerate, file.channels, exact, blocks


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the file's name to errors of a full disk, which lack it."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
