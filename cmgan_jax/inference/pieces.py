"""Pieces of audio through a network of fixed shapes: levels, padding, batches. Numpy alone; knows no model."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cmgan_jax.config import SpectralConfig
from cmgan_jax.inference.strength import Strength, mixed
from cmgan_jax.inference.windows import Layout, WindowedStream

Floats = np.ndarray

OFFSET = 0.25
"""Share of the standard deviation that the mean of speech does not reach. Measured: 0.006 in VoiceBank+DEMAND at most,
0.06 in 413 other clips of speech. Up to here it changes the level by less than 0.3 dB, and nothing is done."""
_ROUNDING = 1e-6
"""What is left of a constant, relative to it, is rounding, and silence."""


@dataclass(frozen=True)
class Network:
    """An enhancer of level-normalised waveforms, for a few shapes.

    Attributes:
        spectral: its analysis.
        layout: how long signals are cut.
        buckets: the shapes (B, S) that it takes, ascending in B, then in S.
        call: from padded float32[B, S + n_fft] (`pad`, then zeros), int32[B] frames that count, and whether these are
            windows of something longer, to float32[B, S].
    """

    spectral: SpectralConfig
    layout: Layout
    buckets: tuple[tuple[int, int], ...]
    call: Callable[[Floats, Floats, bool], Floats]

    def warm_up(self) -> None:
        """Put silence through every bucket, so that what is to be compiled is."""
        for batch, samples in self.buckets:
            silence = np.zeros((batch, samples + self.spectral.n_fft), np.float32)
            self.call(silence, np.full(batch, samples // self.spectral.hop + 1, np.int32), False)


def window_stream(
    network: Network, whole: bool = True, channels: int = 1, centred: bool = False, strength: Strength = 1.0
) -> WindowedStream:
    """A stream of signals at the network's rate.

    Args:
        network: enhances the pieces.
        whole: whether short signals are enhanced as a whole; otherwise all are windows from the first sample on.
        channels: how many, each enhanced by itself.
        centred: whether an offset that no speech has is taken off each piece (`without_offset`).
        strength: how much of the enhanced signal is heard, in each piece.
    """
    layout = network.layout if whole else replace(network.layout, whole=network.layout.length)

    def run(pieces: list[Floats], part: bool) -> list[Floats]:
        pieces = [without_offset(piece, network.spectral) for piece in pieces] if centred else pieces
        return enhance_pieces(network, pieces, part, strength)

    return WindowedStream(run, layout, channels)


def without_offset(audio: Floats, config: SpectralConfig) -> Floats:
    """Take a constant offset off a waveform, where it is beyond what speech has: it would count as level.

    Args:
        audio: float32[S]; less than a quarter of a second stays as it is.
        config: its sample rate.

    Returns:
        float32[S] of mean 0; the same samples where the mean is less than `OFFSET` of the standard deviation.
    """
    if audio.size < config.sample_rate / 4:
        return audio
    mean, deviation = float(np.mean(audio, dtype=np.float64)), float(np.std(audio, dtype=np.float64))
    if abs(mean) <= OFFSET * deviation:
        return audio
    if deviation < _ROUNDING * abs(mean):
        return np.zeros_like(audio)
    return (audio - mean).astype(np.float32)


def gain(audio: Floats) -> float:
    """Factor that brings a waveform float[S] to a root mean square of 1: sqrt(S / sum(x²)); not for silence."""
    return float(np.sqrt(audio.size) / np.sqrt(np.sum(np.square(audio, dtype=np.float64))))


def pad(audio: Floats, config: SpectralConfig) -> tuple[Floats, int]:
    """Extend a waveform to whole hops by its own beginning, as the published evaluation does, and reflect its ends.

    Args:
        audio: float32[S], S of at least 1; one too short to be reflected is repeated.

    Returns:
        float32[S' + n_fft], ready for `padded_stft`, and the frames T = S' / hop + 1.
    """
    half = config.n_fft // 2
    whole = max(-(-audio.size // config.hop), half // config.hop + 1) * config.hop
    extended = np.resize(audio, whole)
    return np.pad(extended, half, mode="reflect"), whole // config.hop + 1


def enhance_pieces(
    network: Network, pieces: list[Floats], part: bool = False, strength: Strength = 1.0
) -> list[Floats]:
    """Enhance pieces, each by itself and at its own level.

    Args:
        network: has a bucket for the longest, and for as many at once.
        pieces: float32[S], S of at least 1.
        part: whether they are windows of something longer.
        strength: how much of the enhanced signal is heard, in each piece.

    Returns:
        float32[S] each; silence stays silence.
    """
    done = [np.zeros(piece.size, np.float32) for piece in pieces]
    heard = [i for i, piece in enumerate(pieces) if np.any(piece)]
    if not heard:
        return done
    gains = [gain(pieces[i]) for i in heard]
    prepared = [
        pad((pieces[i] * np.float64(factor)).astype(np.float32), network.spectral)
        for i, factor in zip(heard, gains, strict=True)
    ]
    reflected = network.spectral.n_fft
    longest = max(padded.size - reflected for padded, _ in prepared)
    batch, samples = next((b, s) for b, s in network.buckets if b >= len(heard) and s >= longest)
    bucket = np.zeros((batch, samples + reflected), np.float32)
    # A row that stays empty counts two frames of silence: no statistics are taken over nothing.
    frames = np.full(batch, 2, np.int32)
    for row, (padded, count) in enumerate(prepared):
        bucket[row, : padded.size], frames[row] = padded, count
    enhanced = network.call(bucket, frames, part)
    for row, (i, factor) in enumerate(zip(heard, gains, strict=True)):
        whole = (enhanced[row, : pieces[i].size] / np.float64(factor)).astype(np.float32)
        done[i] = mixed(strength, pieces[i], whole)
    return done
