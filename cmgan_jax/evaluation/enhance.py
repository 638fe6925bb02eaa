"""The generator on waveforms of any length: few compiled shapes, the result that the exact length would give.

A signal of up to `window` seconds is enhanced whole, as the published evaluation does; a longer one in windows of
that length (`windows`), each at its own level.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import Config, SpectralConfig
from cmgan_jax.errors import UserError
from cmgan_jax.evaluation.pieces import Network, enhance_pieces
from cmgan_jax.evaluation.windows import Layout, WindowedStream
from cmgan_jax.models.generator import Generator
from cmgan_jax.spectral import compress, istft, padded_stft, uncompress

SHAPES = 4
"""Programs that an enhancer compiles, at most."""
BATCH_SECONDS = 24.0
"""Windows are enhanced together while they last no longer than this: memory."""


@dataclass(frozen=True)
class WindowConfig:
    """How long signals are cut."""

    window: float = 24.0
    """Seconds that are enhanced as a whole; longer signals in windows of this length."""
    edge: float = 0.5
    """Seconds at a window's ends that are not used, for want of context; at most an eighth of the window."""
    fade: float = 0.5
    """Seconds in which two windows are cross-faded; at most an eighth of the window."""
    clamp: bool = False
    """Take positions farther apart than in a training crop for the farthest in it, see `clamp_distances`."""


def layout(config: WindowConfig, spectral: SpectralConfig) -> Layout:
    """Windows in samples, rounded up so that halves of halves of them are whole hops.

    Raises:
        UserError: a length that cannot be cut so.
    """
    if not (0.25 <= config.window <= 600 and config.edge >= 0 and config.fade >= 0):
        raise UserError(
            f"windows of {config.window} s with edges of {config.edge} s and a fade of {config.fade} s: a window has "
            "0.25 to 600 s, edge and fade 0 or more"
        )
    unit = 2 ** (SHAPES - 1) * spectral.hop
    length = -(-round(config.window * spectral.sample_rate) // unit) * unit

    def hops(seconds: float) -> int:
        return (
            min(-(-round(seconds * spectral.sample_rate) // spectral.hop), length // 8 // spectral.hop) * spectral.hop
        )

    batch = max(1, round(BATCH_SECONDS * spectral.sample_rate) // length)
    return Layout(length, hops(config.edge), hops(config.fade), spectral.hop, batch)


def rooms(windows: Layout) -> tuple[tuple[int, int], ...]:
    """The shapes (B, S) of pieces up to a window: alone in a half, a quarter of it, …; and a batch of whole ones."""
    together = [(windows.batch, windows.length)] if windows.batch > 1 else []
    alone = [(1, windows.length >> halvings) for halvings in reversed(range(SHAPES - len(together)))]
    return (*alone, *together)


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


def network(variables: Any, config: Config, windows: Layout) -> Network:
    """The generator as a network of a few shapes.

    Args:
        variables: `params` and `batch_stats` of the generator.
        config: the run's numbers.
        windows: the longest pieces, and how many of them at once.
    """

    def call(padded: np.ndarray, frames: np.ndarray) -> np.ndarray:
        return np.asarray(enhance_padded(variables, padded, frames, config=config))

    return Network(config.spectral, rooms(windows), call)


def enhance(variables: Any, audio: np.ndarray, config: Config, windows: WindowConfig | None = None) -> np.ndarray:
    """Enhance one waveform at the model's rate.

    Args:
        variables: `params` and `batch_stats` of the generator.
        audio: float32[S] in [-1, 1], S of at least 1.
        config: the run's numbers.
        windows: how a long one is cut.

    Returns:
        float32[S], at the level of the input; silence stays silence.

    Raises:
        ValueError: not one-dimensional, or empty.
    """
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"audio has shape {list(audio.shape)}, expected [S] with S of at least 1")
    cut = layout(windows or WindowConfig(), config.spectral)
    stream = WindowedStream(partial(enhance_pieces, network(variables, config, cut)), cut)
    return np.concatenate([stream.push(audio), stream.flush()])


def clamp_distances(variables: Any, config: Config) -> Any:
    """Variables whose time attention takes distances beyond those of a training crop for the farthest in it.

    Crops of 2 s have distances up to 320 frames; the table's entries beyond were never trained, yet longer signals
    use them.

    Args:
        variables: `params` and `batch_stats` of a generator.
        config: the run's numbers: the crop that it was trained on.

    Returns:
        The same tree with other tables.
    """
    limit = config.generator.max_distance
    trained = min(config.crop_samples // config.spectral.hop, limit)
    nearest = np.clip(np.arange(-limit, limit + 1), -trained, trained) + limit

    def clamp(path: Any, leaf: Any) -> Any:
        names = [entry.key for entry in path]
        return jnp.asarray(leaf)[nearest] if names[-1] == "positions" and "time" in names else leaf

    return jax.tree_util.tree_map_with_path(clamp, variables)
