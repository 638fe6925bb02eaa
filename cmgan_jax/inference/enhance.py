"""The generator on waveforms of any length: few compiled shapes, the result that the exact length would give.

A signal of up to `whole` seconds is enhanced as the published evaluation does it; a longer one in windows
(`windows`), each at its own level. Levels, instance norms and attention see a whole signal or one window, so the two
agree only as far as a window is like the whole; how far, and what memory it takes, decided the defaults.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import Config, InferenceConfig, SpectralConfig
from cmgan_jax.errors import UserError
from cmgan_jax.inference.buckets import buckets
from cmgan_jax.inference.pieces import Network, window_stream
from cmgan_jax.inference.windows import Layout
from cmgan_jax.models.networks import Networks, make_networks
from cmgan_jax.precision import as_configured
from cmgan_jax.spectral import compress, istft, padded_stft, uncompress

ACCELERATOR_BATCH = 8
"""Windows at once where there is an accelerator; on a CPU one fills the cores, and more would only take memory."""

Clamp = Literal["never", "windows", "always"]


@dataclass(frozen=True)
class WindowConfig:
    """How long signals are cut. What is not said is as the network's own config has it (`config.InferenceConfig`)."""

    whole: float | None = None
    """Seconds of audio that are enhanced as a whole."""
    window: float | None = None
    """Longer audio is enhanced in overlapping windows of so many seconds; also a stream's latency."""
    edge: float | None = None
    """Seconds at a window's ends that are not used, for want of context; at most an eighth of the window."""
    fade: float | None = None
    """Seconds in which two windows are cross-faded; at most an eighth of the window."""
    batch: int = 0
    """Windows at once; 0: 1 on a CPU, 8 on an accelerator."""
    clamp: Clamp = "windows"
    """Where positions farther apart than in a training crop, which were never trained, count as the farthest in it:
    `never` (the published code), in `windows` of long audio alone, or `always`."""


def layout(config: WindowConfig, spectral: SpectralConfig, usual: InferenceConfig | None = None) -> Layout:
    """Windows in samples.

    Args:
        config: how long signals are cut.
        spectral: rate and hop.
        usual: what holds where `config` says nothing; None: the defaults of `InferenceConfig`.

    Raises:
        UserError: a length that cannot be cut so.
    """
    usual = usual or InferenceConfig()
    window = usual.window if config.window is None else config.window
    # Whoever asks for longer windows alone does not ask for a shorter whole.
    whole = max(usual.whole, window) if config.whole is None else config.whole
    edge, fade = (getattr(usual if getattr(config, name) is None else config, name) for name in ("edge", "fade"))
    fitting = all(0 <= value <= most for value, most in ((edge, 600), (fade, 600), (config.batch, 1024)))
    if not (0.25 <= window <= whole <= 600 and fitting):
        raise UserError(
            f"whole up to {whole} s, then windows of {window} s with edges of {edge} s, a fade of "
            f"{fade} s, {config.batch} at once: a window has 0.25 s or more and is no longer than what is "
            "enhanced whole, that no longer than 600 s; the others are 0 or more, a batch at most 1024"
        )

    def hops(seconds: float) -> int:
        return -(-round(seconds * spectral.sample_rate) // spectral.hop)

    length = hops(window)
    edge, fade = (min(hops(seconds), length // 8) * spectral.hop for seconds in (edge, fade))
    batch = config.batch or (1 if jax.default_backend() == "cpu" else ACCELERATOR_BATCH)
    return Layout(length * spectral.hop, edge, fade, spectral.hop, batch, hops(whole) * spectral.hop)


@as_configured
def enhanced_rows(variables: Any, padded: Array, frames: Array, *, config: Config, networks: Networks) -> Array:
    """Enhance a batch of padded waveforms.

    Args:
        variables: `params` and `batch_stats` of the generator.
        padded: float[B, S + n_fft], from `pad`, zeros after each item's end.
        frames: int[B], frames of each item.
        config: the run's configuration.
        networks: both networks, without an axis.

    Returns:
        float[B, S], zeros after each item's end.
    """
    spectrum = compress(padded_stft(padded, config.spectral), config.spectral)
    enhanced = networks.generator.apply(variables, spectrum, train=False, frames=frames)
    return istft(uncompress(cast(Array, enhanced), config.spectral), config.spectral, frames)


enhance_padded = jax.jit(enhanced_rows, static_argnames=("config", "networks"))
"""`enhanced_rows`, compiled; what is exported is compiled elsewhere."""


def network(
    variables: Any,
    config: Config,
    windows: WindowConfig | None = None,
    seconds: Sequence[float] = (),
    networks: Networks | None = None,
) -> Network:
    """The generator as a network of a few shapes.

    Args:
        variables: `params` and `batch_stats` of the generator.
        config: the run's configuration.
        windows: how long signals are cut.
        seconds: of each signal to come, where that is known; then shapes are chosen to fit them. Others fit too.
        networks: both networks, without an axis; None: those that the config names.

    Raises:
        UserError: they cannot be cut so.
    """
    windows, built = windows or WindowConfig(), networks or make_networks(config)
    cut = layout(windows, config.spectral, config.inference)
    # Once, and not at every call.
    of_whole, of_windows = jax.device_put(variables_of(variables, config, windows))

    def call(padded: np.ndarray, frames: np.ndarray, part: bool) -> np.ndarray:
        return np.asarray(
            enhance_padded(of_windows if part else of_whole, padded, frames, config=config, networks=built)
        )

    rate = config.spectral.sample_rate
    return Network(config.spectral, cut, buckets(cut, [round(rate * length) for length in seconds], rate), call)


def enhance(
    variables: Any,
    audio: np.ndarray,
    config: Config,
    windows: WindowConfig | None = None,
    networks: Networks | None = None,
) -> np.ndarray:
    """Enhance one waveform at the model's rate.

    Args:
        variables: `params` and `batch_stats` of the generator.
        audio: float32[S] in [-1, 1], S of at least 1.
        config: the run's configuration.
        windows: how a long one is cut.
        networks: both networks, without an axis; None: those that the config names.

    Returns:
        float32[S], at the level of the input; silence stays silence.

    Raises:
        ValueError: not one-dimensional, or empty.
    """
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"audio has shape {list(audio.shape)}, expected [S] with S of at least 1")
    stream = window_stream(network(variables, config, windows, networks=networks))
    return np.concatenate([stream.push(audio[:, None]), stream.flush()])[:, 0]


def variables_of(variables: Any, config: Config, windows: WindowConfig) -> tuple[Any, Any]:
    """Variables for whole signals, and for windows of longer ones: with clamped distances where that is wished.

    Raises:
        UserError: an unknown wish.
    """
    if windows.clamp not in get_args(Clamp):
        raise UserError(f"--clamp {windows.clamp}: it must be one of {', '.join(get_args(Clamp))}")
    clamped = clamp_distances(variables, config) if windows.clamp != "never" else variables
    return (clamped if windows.clamp == "always" else variables), clamped


def clamp_distances(variables: Any, config: Config) -> Any:
    """Variables whose time attention takes distances beyond those of a training crop for the farthest in it.

    Crops of 2 s have distances up to 320 frames; the table's entries beyond were never trained, yet longer signals
    use them.

    Args:
        variables: `params` and `batch_stats` of a generator.
        config: the run's configuration: the crop that it was trained on.

    Returns:
        The same tree with other tables.
    """
    limit = config.generator.max_distance
    trained = min(config.crop_samples // config.spectral.hop, limit)
    nearest = np.clip(np.arange(-limit, limit + 1), -trained, trained) + limit

    def clamp(path: Any, leaf: Any) -> Any:
        names = [entry.key for entry in path]
        return jnp.asarray(leaf)[:, nearest] if names[-1] == "positions" and "time" in names else leaf

    return jax.tree_util.tree_map_with_path(clamp, variables)
