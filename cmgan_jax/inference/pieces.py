"""Runs pieces of audio through a network of fixed shapes: level, padding, batching. Uses numpy and no model code."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cmgan_jax.config import SpectralConfig
from cmgan_jax.inference.strength import Mixer, Strength
from cmgan_jax.inference.windows import Layout, WindowedStream

Floats = np.ndarray

OFFSET = 0.25
"""Largest ratio of mean to standard deviation that is left uncorrected. In speech it is lower: at most 0.006 in
VoiceBank+DEMAND and 0.06 in 413 other clips. Up to this ratio, an offset changes the level by less than 0.3 dB."""
_ROUNDING = 1e-6
"""Ratio of standard deviation to mean below which a signal is a constant with rounding errors, that is, silence."""


@dataclass(frozen=True)
class Network:
    """An enhancer of level-normalised waveforms for a few input shapes.

    Attributes:
        spectral: spectral settings.
        layout: how long signals are cut into windows.
        buckets: supported shapes (B, S), in ascending order of B, then of S.
        call: function from padded audio float32[B, S + n_fft] (`pad`, then zeros), the number of valid frames int32[B],
            and whether the items are windows of longer signals, to float32[B, S].
    """

    spectral: SpectralConfig
    layout: Layout
    buckets: tuple[tuple[int, int], ...]
    call: Callable[[Floats, Floats, bool], Floats]

    def warm_up(self) -> None:
        """Run silence through every bucket, so that all programs are compiled."""
        for batch, samples in self.buckets:
            silence = np.zeros((batch, samples + self.spectral.n_fft), np.float32)
            self.call(silence, np.full(batch, samples // self.spectral.hop + 1, np.int32), False)


def window_stream(
    network: Network, whole: bool = True, channels: int = 1, centred: bool = False, strength: Strength = 1.0
) -> WindowedStream:
    """Make a stream for a signal at the network's sample rate.

    Args:
        network: the network that enhances the pieces.
        whole: whether signals up to `layout.whole` are enhanced in one piece; otherwise only those up to one window.
        channels: number of channels, each enhanced independently.
        centred: whether a large constant offset is removed from each piece (`without_offset`).
        strength: share of the enhanced signal in the result, chosen for each piece if it is `auto`.
    """
    mixer = Mixer(strength, channels)
    layout = network.layout if whole else replace(network.layout, whole=network.layout.length)

    def run(pieces: list[Floats], part: bool) -> list[Floats]:
        pieces = [without_offset(piece, network.spectral) for piece in pieces] if centred else pieces
        return [mixer(*pair) for pair in zip(pieces, enhance_pieces(network, pieces, part), strict=True)]

    return WindowedStream(run, layout, channels)


def without_offset(audio: Floats, config: SpectralConfig) -> Floats:
    """Remove a constant offset from a waveform if it exceeds what occurs in speech, since it would count as level.

    Args:
        audio: float32[S]; audio of less than a quarter of a second is returned unchanged.
        config: spectral settings, which have the sample rate.

    Returns:
        float32[S] with mean 0; the same samples if the mean is at most `OFFSET` times the standard deviation.
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
    """Factor sqrt(S / sum(x²)) that scales a waveform float[S] to a root mean square of 1; undefined for silence."""
    return float(np.sqrt(audio.size) / np.sqrt(np.sum(np.square(audio, dtype=np.float64))))


def pad(audio: Floats, config: SpectralConfig) -> tuple[Floats, int]:
    """Extend a waveform to whole hops with its own beginning, as in the published evaluation, and pad it by reflection.

    Args:
        audio: float32[S], S of at least 1; audio that is too short for reflection is repeated.

    Returns:
        float32[S' + n_fft], ready for `padded_stft`, and the number of frames T = S' / hop + 1.
    """
    half = config.n_fft // 2
    whole = max(-(-audio.size // config.hop), half // config.hop + 1) * config.hop
    extended = np.resize(audio, whole)
    return np.pad(extended, half, mode="reflect"), whole // config.hop + 1


def enhance_pieces(network: Network, pieces: list[Floats], part: bool = False) -> list[Floats]:
    """Enhance a batch of pieces, each normalised to its own level.

    Args:
        network: the network; it must have a bucket for this many pieces of this length.
        pieces: float32[S] each, S of at least 1.
        part: whether the pieces are windows of a longer signal.

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
    # Empty rows count as two frames of silence, so that no statistics are taken over zero frames.
    frames = np.full(batch, 2, np.int32)
    for row, (padded, count) in enumerate(prepared):
        bucket[row, : padded.size], frames[row] = padded, count
    enhanced = network.call(bucket, frames, part)
    for row, (i, factor) in enumerate(zip(heard, gains, strict=True)):
        done[i] = (enhanced[row, : pieces[i].size] / np.float64(factor)).astype(np.float32)
    return done
