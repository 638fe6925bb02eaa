"""Whole files through the generator: any length, few compiled shapes, the result that the exact length would give."""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import Config, SpectralConfig
from cmgan_jax.models.generator import Generator
from cmgan_jax.spectral import compress, istft, level, padded_stft, uncompress

LONGEST_SECONDS = 16.0
"""The published evaluation's limit; a longer file is enhanced in windows of this length."""
SHORTEST_SECONDS = 2.0
"""The smallest compiled length; others double it."""


def bucket(samples: int, config: SpectralConfig) -> int:
    """Compiled length, in samples, that serves a file of so many: powers of two times `SHORTEST_SECONDS`."""
    size = round(SHORTEST_SECONDS * config.sample_rate)
    while size < samples:
        size *= 2
    return size


def pad(audio: np.ndarray, config: SpectralConfig) -> tuple[np.ndarray, int]:
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


@partial(jax.jit, static_argnames=("config",))
def enhance_padded(variables: Any, padded: Array, frames: Array, *, config: Config) -> Array:
    """Enhance a batch of padded waveforms.

    Args:
        variables: `params` and `batch_stats` of the generator.
        padded: float[B, S + n_fft], from `pad`, zeros after each item's end.
        frames: int[B], frames of each item.
        config: the run's numbers.

    Returns:
        float[B, S], zeros after each item's end.
    """
    spectrum = compress(padded_stft(padded, config.spectral), config.spectral)
    enhanced = Generator(config.generator).apply(variables, spectrum, train=False, frames=frames)
    return istft(uncompress(cast(Array, enhanced), config.spectral), config.spectral, frames)


def enhance(variables: Any, audio: np.ndarray, config: Config) -> np.ndarray:
    """Enhance one waveform at the model's rate.

    Args:
        variables: `params` and `batch_stats` of the generator.
        audio: float32[S] in [-1, 1], S of at least 1.
        config: the run's numbers.

    Returns:
        float32[S], at the level of the input; silence stays silence.

    Raises:
        ValueError: not one-dimensional, or empty.
    """
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"audio has shape {list(audio.shape)}, expected [S] with S of at least 1")
    if not np.any(audio):
        return np.zeros_like(audio, dtype=np.float32)
    longest = round(LONGEST_SECONDS * config.spectral.sample_rate)
    pieces = [audio[start : start + longest] for start in range(0, audio.size, longest)]
    return np.concatenate([_enhance_piece(variables, piece, config) for piece in pieces])


def _enhance_piece(variables: Any, audio: np.ndarray, config: Config) -> np.ndarray:
    factor = float(level(jnp.asarray(audio))[0])
    padded, frames = pad(audio * np.float32(factor), config.spectral)
    room = np.zeros(bucket(padded.size - config.spectral.n_fft, config.spectral) + config.spectral.n_fft, np.float32)
    room[: padded.size] = padded
    enhanced = enhance_padded(variables, room[None], np.asarray([frames], np.int32), config=config)
    return np.asarray(enhanced)[0, : audio.size] / np.float32(factor)
