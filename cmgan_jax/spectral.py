"""Level normalisation, the short-time Fourier transform and its inverse, and power-law compression.

All are pure functions on JAX arrays; for the letters in shapes see `shapes.py`. Formulas with infinite derivatives are
guarded at these points, so that silence gives finite gradients; values elsewhere are unchanged.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import SpectralConfig
from cmgan_jax.shapes import check_shape


def unit_rms_gain(noisy: Array) -> Array:
    """Factor that brings each waveform to a root mean square of 1; silence keeps its level.

    Args:
        noisy: float[..., S].

    Returns:
        float[..., 1]: sqrt(S / sum(noisy ** 2)), 1 where the sum is 0.
    """
    energy = jnp.sum(jnp.square(noisy), axis=-1, keepdims=True)
    heard = energy != 0
    # Divide two roots, since S / energy would overflow for a nearly silent waveform.
    return jnp.where(heard, np.float32(np.sqrt(noisy.shape[-1])) / jnp.sqrt(jnp.where(heard, energy, 1.0)), 1.0)


def window(config: SpectralConfig) -> np.ndarray:
    """Periodic Hamming window, float32[n_fft]."""
    phase = 2 * np.pi * np.arange(config.n_fft) / config.n_fft
    return (0.54 - 0.46 * np.cos(phase)).astype(np.float32)


def frame_count(samples: int, config: SpectralConfig) -> int:
    """Number of frames T of a waveform of S samples."""
    return samples // config.hop + 1


def stft(audio: Array, config: SpectralConfig) -> Array:
    """Centred, reflect-padded, one-sided short-time Fourier transform.

    Args:
        audio: float[B, S], S > n_fft / 2 and a multiple of the hop.

    Returns:
        complex[B, T, F], T = S / hop + 1, F = n_fft / 2 + 1.

    Raises:
        ValueError: the rank is not 2, or the length cannot be padded or framed.
    """
    samples = check_shape("waveform", audio.shape, "BS")["S"]
    if samples <= config.n_fft // 2 or samples % config.hop:
        raise ValueError(
            f"a waveform of {samples} samples: it must be longer than n_fft / 2 = {config.n_fft // 2} "
            f"and a multiple of the hop {config.hop}"
        )
    half = config.n_fft // 2
    return padded_stft(jnp.pad(audio, ((0, 0), (half, half)), mode="reflect"), config)


def padded_stft(padded: Array, config: SpectralConfig) -> Array:
    """Transform a waveform that already has n_fft / 2 samples of padding on each side.

    Args:
        padded: float[B, S + n_fft].

    Returns:
        complex[B, T, F].
    """
    hops = config.n_fft // config.hop
    blocks = padded.reshape(padded.shape[0], -1, config.hop)
    frames = blocks.shape[1] - hops + 1
    framed = jnp.concatenate([blocks[:, i : i + frames] for i in range(hops)], axis=-1)
    parts = _transform(framed, _analysis(config))
    return jax.lax.complex(parts[..., : config.bins], parts[..., config.bins :])


def istft(spectrum: Array, config: SpectralConfig, frames: Array | None = None) -> Array:
    """Inverse of `stft`: windowed overlap-add divided by the summed squared window.

    Args:
        spectrum: complex[B, T, F].
        frames: int[B], number of valid frames of each item; the rest are ignored. None: all T.

    Returns:
        float[B, S], S = hop * (T - 1); if `frames` is given, it is 0 beyond hop * (frames - 1).
    """
    total = check_shape("spectrum", spectrum.shape, ("B", "T", config.bins))["T"]
    parts = jnp.concatenate([spectrum.real, spectrum.imag], axis=-1)
    framed = _transform(parts, _synthesis(config))
    weight = jnp.broadcast_to(jnp.square(jnp.asarray(window(config))), (1, total, config.n_fft))
    if frames is not None:
        counts = (jnp.arange(total) < frames[:, None])[:, :, None]
        framed, weight = framed * counts, weight * counts
    half = config.n_fft // 2
    summed = _overlap_add(framed, config)[:, half:-half]
    weight = _overlap_add(weight, config)[:, half:-half]
    audio = summed / jnp.where(weight > 0, weight, 1.0)
    if frames is None:
        return audio
    return jnp.where(jnp.arange(audio.shape[1]) < config.hop * (frames[:, None] - 1), audio, 0.0)


# The transforms are computed as matrix products. XLA's FFT on a CPU waits, inside a thread of a pool, for other threads
# of the same pool: with as many transforms at once as threads, the program deadlocks (observed). The cost of the
# products, 2 n_fft² multiplications per frame, is negligible compared with the network.


def _transform(frames: Array, matrix: np.ndarray) -> Array:
    """Multiply [B, T, n] by [n, m], one product per item, so that an item's result does not depend on the batch size.

    The rounding of one product over the whole batch would depend on the batch size, and compression amplifies rounding
    near 0. So the gradient would depend on how many devices share a batch (by 2.5e-5 of its largest entry, observed).
    """
    return jnp.matmul(frames, jnp.broadcast_to(matrix, (frames.shape[0], *matrix.shape)), precision="highest")


def _phases(config: SpectralConfig) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of 2π k n / n_fft, float64[F, n_fft]."""
    # Reduce to one turn as integers first, since large arguments would lose digits.
    turns = np.outer(np.arange(config.bins), np.arange(config.n_fft)) % config.n_fft / config.n_fft
    return np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)


@cache
def _analysis(config: SpectralConfig) -> np.ndarray:
    """Matrix of window and forward transform: samples [n_fft] to real, then imaginary parts [2 F]."""
    cosine, sine = _phases(config)
    return (window(config)[:, None] * np.concatenate([cosine, -sine]).T).astype(np.float32)


@cache
def _synthesis(config: SpectralConfig) -> np.ndarray:
    """Matrix of inverse transform and window: real, then imaginary parts [2 F] to samples [n_fft]."""
    cosine, sine = _phases(config)
    # Every bin except the first and the last stands for two bins of the full spectrum.
    twice = np.full((config.bins, 1), 2.0)
    twice[[0, -1]] = 1.0
    parts = np.concatenate([twice * cosine, -twice * sine]) / config.n_fft
    return (parts * window(config)).astype(np.float32)


def _overlap_add(framed: Array, config: SpectralConfig) -> Array:
    batch, total, _ = framed.shape
    hops = config.n_fft // config.hop
    pieces = framed.reshape(batch, total, hops, config.hop)
    padded = (jnp.pad(pieces[:, :, i], ((0, 0), (i, hops - 1 - i), (0, 0))) for i in range(hops))
    return sum(padded, jnp.zeros((), framed.dtype)).reshape(batch, -1)


def magnitude(spectrum: Array) -> Array:
    """|z|, with a derivative of 0 where z is 0."""
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    heard = power != 0  # Not `> 0`, because NaN must stay NaN: otherwise a broken estimate would pass for silence.
    return jnp.where(heard, jnp.sqrt(jnp.where(heard, power, 1.0)), 0.0)


def compress(spectrum: Array, config: SpectralConfig) -> Array:
    """|z| ** exponent with the phase of z; 0 stays 0. Any shape, complex."""
    return _power(spectrum, config.exponent)


def uncompress(spectrum: Array, config: SpectralConfig) -> Array:
    """Inverse of `compress`: |z| ** (1 / exponent) with the phase of z. Any shape, complex."""
    return _power(spectrum, 1 / config.exponent)


def _power(spectrum: Array, exponent: float) -> Array:
    """|z| ** exponent with the phase of z, with a derivative of 0 where z is 0."""
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    heard = power != 0
    return spectrum * jnp.where(heard, jnp.where(heard, power, 1.0) ** ((exponent - 1) / 2), 0.0)
