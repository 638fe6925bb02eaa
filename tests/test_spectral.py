"""Spectra against a loop over frames in float64, inverses, and gradients where derivatives are infinite."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.config import SpectralConfig
from cmgan_jax.spectral import (
    compress,
    frame_count,
    istft,
    magnitude,
    padded_stft,
    stft,
    uncompress,
    unit_rms_gain,
    window,
)

SMALL = SpectralConfig(n_fft=16, hop=4)
SAMPLES = 48
RNG = np.random.default_rng(0)


def noise(items: int, samples: int = SAMPLES) -> np.ndarray:
    return RNG.normal(size=(items, samples)).astype(np.float32)


def test_window_is_a_periodic_hamming() -> None:
    """NumPy's Hamming window is the symmetric one: a period more, without its last sample."""
    np.testing.assert_allclose(window(SpectralConfig()), np.hamming(401)[:-1], atol=1e-7)


@pytest.mark.parametrize("config", [SMALL, SpectralConfig(n_fft=16, hop=8), SpectralConfig()])
def test_stft_is_a_loop_over_frames(config: SpectralConfig) -> None:
    samples = 6 * config.n_fft
    audio = noise(2, samples)
    padded = np.pad(audio.astype(np.float64), ((0, 0), (config.n_fft // 2,) * 2), mode="reflect")
    taper = np.hamming(config.n_fft + 1)[:-1]
    expected = np.stack(
        [np.fft.rfft(padded[:, i : i + config.n_fft] * taper) for i in range(0, samples + 1, config.hop)], axis=1
    )
    found = jax.jit(stft, static_argnums=1)(audio, config)
    assert found.shape == (2, frame_count(samples, config), config.bins)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(padded_stft(jnp.asarray(padded, jnp.float32), config), found, atol=1e-5)
    np.testing.assert_allclose(jax.jit(istft, static_argnums=1)(found, config), audio, atol=1e-5)


def test_istft_with_frames_is_that_of_the_shorter_spectrum() -> None:
    """Frames that do not count hold garbage; what is beyond the shorter item is 0."""
    counts = np.array([13, 7, 7])
    transform, inverse = (jax.jit(function, static_argnums=1) for function in (stft, istft))
    spectrum = np.asarray(transform(noise(3), SMALL))
    found = np.asarray(inverse(jnp.where((np.arange(13) < counts[:, None])[..., None], spectrum, 1e3), SMALL, counts))
    for row, item, frames in zip(found, spectrum, counts, strict=True):
        alone = inverse(item[None, :frames], SMALL)[0]
        np.testing.assert_allclose(row[: alone.size], alone, atol=1e-6)
        assert not row[alone.size :].any()


def test_level_makes_the_root_mean_square_1() -> None:
    """By hand: [3, 4, 0, 0] has a mean square of 25 / 4. Silence stays; what is nearly silent does not overflow."""
    np.testing.assert_allclose(unit_rms_gain(jnp.array([[3.0, 4, 0, 0], [0, 0, 0, 0]])), [[0.4], [1]], rtol=1e-6)
    faint = jnp.zeros((1, 32_000)).at[0, 7].set(2e-19)
    assert np.isfinite(unit_rms_gain(faint)).all()


def test_compression_by_hand_and_back() -> None:
    """|3 + 4i| = 5: 5 ** 0.3 with the phase (0.6, 0.8)."""
    config = SpectralConfig()
    z = jnp.array([3 + 4j, 0, -1e-3j, 1e3])
    small = compress(z, config)
    expected = [5**0.3 * (0.6 + 0.8j), 0, -1j * 1e-3**0.3, 1e3**0.3]
    np.testing.assert_allclose(small, expected, rtol=1e-5)
    np.testing.assert_allclose(uncompress(small, config), z, rtol=1e-5)
    np.testing.assert_allclose(magnitude(z), [5, 0, 1e-3, 1e3], rtol=1e-6)


def test_gradient_of_the_magnitude_is_the_phase_and_0_at_0() -> None:
    real, imaginary = jax.grad(lambda a, b: jnp.sum(magnitude(jax.lax.complex(a, b))), argnums=(0, 1))(
        jnp.array([3.0, 0, -2]), jnp.array([4.0, 0, 0])
    )
    np.testing.assert_allclose(real, [0.6, 0, -1], atol=1e-6)
    np.testing.assert_allclose(imaginary, [0.8, 0, 0], atol=1e-6)


def total(spectrum: Array) -> Array:
    return jnp.sum(spectrum.real - 0.5 * spectrum.imag)


def whole(audio: Array, config: SpectralConfig) -> Array:
    """What a step does to a waveform, with a compression and a magnitude in the path of the gradient."""
    small = compress(stft(audio * unit_rms_gain(audio), config), config)
    return jnp.sum(magnitude(small)) + jnp.sum(istft(uncompress(small, config), config))


OF_SPECTRUM: dict[str, Callable[[Array, SpectralConfig], Array]] = {
    "magnitude": lambda z, config: jnp.sum(magnitude(z)),
    "compress": lambda z, config: total(compress(z, config)),
    "uncompress": lambda z, config: total(uncompress(z, config)),
}
OF_AUDIO: dict[str, Callable[[Array, SpectralConfig], Array]] = {
    "level": lambda audio, config: jnp.sum(unit_rms_gain(audio)),
    "stft": lambda audio, config: total(stft(audio, config)),
    "whole": whole,
} | {
    name: lambda audio, config, function=function: function(stft(audio, config), config)
    for name, function in OF_SPECTRUM.items()
}


# Above an exponent of 1/3 the inverse's power of |z| ** 2 is below 1, so that its derivative at 0 is infinite too.
@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0])
def test_gradients_are_finite_where_it_is_silent(exponent: float) -> None:
    """On silence, on a constant (bins near 0 by rounding), on a burst in silence, and on exact zeros of a spectrum."""
    config = SpectralConfig(n_fft=16, hop=4, exponent=exponent)
    burst = np.zeros(SAMPLES, np.float32)
    burst[:5] = 1
    audio = jnp.asarray(np.stack([np.zeros(SAMPLES), np.full(SAMPLES, 0.5), burst]), jnp.float32)
    spectrum = jnp.zeros((1, 13, 9), jnp.complex64).at[0, :6].set(1 - 1j)

    @jax.jit
    def gradients(audio: Array, spectrum: Array) -> dict[str, Any]:
        found = {f"{name} of audio": jax.grad(function)(audio, config) for name, function in OF_AUDIO.items()}
        for name, function in OF_SPECTRUM.items():
            found[f"{name} of a spectrum"] = jax.grad(function)(spectrum, config)
        return found

    for name, gradient in gradients(audio, spectrum).items():
        assert np.isfinite(gradient).all(), name


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((SAMPLES,), r"waveform has shape \[48\], expected \[B, S\]"),
        ((1, 8), "8 samples.*longer than n_fft / 2 = 8"),
        ((1, 50), "50 samples.*multiple of the hop 4"),
    ],
)
def test_waveforms_that_cannot_be_framed_are_refused(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        stft(jnp.zeros(shape), SMALL)


def test_a_spectrum_of_other_bins_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spectrum has shape \[1, 13, 10\], expected \[B, T, 9\]"):
        istft(jnp.zeros((1, 13, 10), jnp.complex64), SMALL)


def test_what_is_not_a_number_stays_so() -> None:
    """A broken estimate must not pass for silence: the discriminator would learn from it."""
    broken = jnp.asarray([complex(np.nan, 0.0)])
    assert np.isnan(magnitude(broken)).all()
    assert np.isnan(compress(broken, SpectralConfig())).all()
    assert np.isnan(uncompress(broken, SpectralConfig())).all()
    assert np.isnan(unit_rms_gain(jnp.asarray([[np.nan, 1.0]]))).all()


def test_an_item_s_spectrum_does_not_depend_on_its_batch() -> None:
    """To the last bit: compression amplifies rounding near 0, and devices share a batch in any number."""
    audio = np.random.default_rng(0).normal(size=(4, 4000)).astype(np.float32)
    transform = jax.jit(stft, static_argnums=1)
    together = transform(audio, SpectralConfig())
    alone = [transform(audio[i : i + 1], SpectralConfig())[0] for i in range(4)]
    np.testing.assert_array_equal(together, np.stack(alone))
