"""Pieces of audio through a network of fixed shapes: levels, padding, batches. Numpy alone; knows no model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cmgan_jax.config import SpectralConfig
from cmgan_jax.evaluation.windows import Layout, WindowedStream

Floats = np.ndarray


@dataclass(frozen=True)
class Network:
    """An enhancer of level-normalised waveforms, for a few shapes.

    Attributes:
        spectral: its analysis.
        layout: how long signals are cut.
        rooms: the shapes (B, S) that it takes, ascending in B, then in S.
        call: from padded float32[B, S + n_fft] (`pad`, then zeros), int32[B] frames that count, and whether these are
            windows of something longer, to float32[B, S].
    """

    spectral: SpectralConfig
    layout: Layout
    rooms: tuple[tuple[int, int], ...]
    call: Callable[[Floats, Floats, bool], Floats]

    def warm_up(self) -> None:
        """Put silence through every room, so that what is to be compiled is."""
        for batch, samples in self.rooms:
            silence = np.zeros((batch, samples + self.spectral.n_fft), np.float32)
            self.call(silence, np.full(batch, samples // self.spectral.hop + 1, np.int32), False)


def window_stream(network: Network, whole: bool = True, channels: int = 1) -> WindowedStream:
    """A stream of signals at the network's rate; windows from the first sample on unless `whole`."""
    layout = network.layout if whole else replace(network.layout, whole=network.layout.length)
    return WindowedStream(partial(enhance_pieces, network), layout, channels)


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


def enhance_pieces(network: Network, pieces: list[Floats], part: bool = False) -> list[Floats]:
    """Enhance pieces, each by itself and at its own level.

    Args:
        network: has a room for the longest, and for as many at once.
        pieces: float32[S], S of at least 1.
        part: whether they are windows of something longer.

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
    batch, samples = next((b, s) for b, s in network.rooms if b >= len(heard) and s >= longest)
    room = np.zeros((batch, samples + reflected), np.float32)
    # A row that stays empty counts two frames of silence: no statistics are taken over nothing.
    frames = np.full(batch, 2, np.int32)
    for row, (padded, count) in enumerate(prepared):
        room[row, : padded.size], frames[row] = padded, count
    enhanced = network.call(room, frames, part)
    for row, (i, factor) in enumerate(zip(heard, gains, strict=True)):
        done[i] = (enhanced[row, : pieces[i].size] / np.float64(factor)).astype(np.float32)
    return done
