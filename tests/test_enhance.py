"""Waveforms through the generator: levels, buckets, windows, silence. Tiny random networks; no speech needed."""

from functools import cache
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmgan_jax.config import Config
from cmgan_jax.errors import UserError
from cmgan_jax.inference import enhance as module
from cmgan_jax.inference.enhance import WindowConfig, clamp_distances, enhance, layout, network
from cmgan_jax.inference.pieces import enhance_pieces, gain, pad
from cmgan_jax.models.generator import BLOCKS, Generator, split_blocks
from cmgan_jax.recipes import make_config
from cmgan_jax.spectral import compress, istft, stft, uncompress, unit_rms_gain

CONFIG = make_config("recommended", "tiny")
# Rooms of 1 s, 1/2 s and 1/4 s: programs that the tests share, for a compile takes seconds.
SHORT = WindowConfig(whole=1.0, window=0.5, edge=0.05, fade=0.05)


@cache
def random_variables(config: Config = CONFIG) -> Any:
    """Variables of a generator, drawn without compiling anything."""
    spectrum = jax.ShapeDtypeStruct((1, 41, config.spectral.bins), jnp.complex64)
    shapes = jax.eval_shape(Generator(config.generator).init, jax.random.key(0), spectrum)
    draw = np.random.default_rng(0)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        positive = path[-1].key in ("variance", "scale")
        return (draw.uniform(0.5, 1.5, leaf.shape) if positive else draw.normal(0, 0.3, leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def noise(samples: int, seed: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.slow
def test_a_whole_signal_is_what_the_rules_of_the_published_evaluation_give() -> None:
    # Written out: level to a root mean square of 1, whole hops by its own beginning, one pass at that very length.
    audio, spectral, samples = noise(9_950), CONFIG.spectral, 9_950
    c = np.sqrt(samples / np.sum(audio.astype(np.float64) ** 2))
    extended = np.concatenate([audio, audio[: -samples % spectral.hop]]) * np.float32(c)
    apply = jax.jit(Generator(CONFIG.generator).apply)
    spectrum = apply(random_variables(), compress(stft(jnp.asarray(extended)[None], spectral), spectral))
    expected = np.asarray(istft(uncompress(spectrum, spectral), spectral))[0, :samples] / c
    found = enhance(random_variables(), audio, CONFIG, SHORT)
    assert found.shape == audio.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_level_is_kept() -> None:
    # The network hears the same at every level, so the result scales with the input.
    audio = noise(4_000)
    loud, quiet = (enhance(random_variables(), audio * np.float32(f), CONFIG, SHORT) for f in (8.0, 2.0**-20))
    np.testing.assert_allclose(loud / 8, quiet * 2**20, atol=1e-4 * np.abs(loud / 8).max())


@pytest.mark.parametrize("samples", [1, 2, 199, 200, 201])
def test_the_shortest_signals(samples: int) -> None:
    found = enhance(random_variables(), noise(samples), CONFIG, SHORT)
    assert found.shape == (samples,)
    assert np.isfinite(found).all()


def test_silence_stays_silence() -> None:
    for samples in (100, 20_000):
        np.testing.assert_array_equal(enhance(random_variables(), np.zeros(samples, np.float32), CONFIG, SHORT), 0)
    # Silent windows within a signal, too: the first ends at 8,000 samples.
    part = np.concatenate([np.zeros(12_000, np.float32), noise(12_000)])
    found = enhance(random_variables(), part, CONFIG, SHORT)
    np.testing.assert_array_equal(found[:6_000], 0)
    assert np.abs(found[12_000:]).max() > 0


def test_faint_and_loud_levels_are_finite() -> None:
    # Squares of 1e-40 vanish and those of 1e30 overflow in single precision.
    for peak in (1e-40, 1e30):
        assert np.isfinite(enhance(random_variables(), np.full(500, peak, np.float32), CONFIG, SHORT)).all()
    assert gain(noise(1_000)) == pytest.approx(float(unit_rms_gain(jnp.asarray(noise(1_000)))[0]), rel=1e-6)


def test_what_is_no_waveform_is_refused() -> None:
    for audio in (np.zeros(0, np.float32), np.zeros((2, 5), np.float32)):
        with pytest.raises(ValueError, match="expected"):
            enhance(random_variables(), audio, CONFIG, SHORT)


def test_padding_repeats_what_is_too_short_to_reflect() -> None:
    padded, frames = pad(np.arange(1, 4, dtype=np.float32), CONFIG.spectral)
    # 300 samples (3 hops, more than n_fft / 2 = 200) of 1 2 3 1 2 3 …, then 200 mirrored at each end.
    assert padded.shape == (700,)
    assert frames == 4
    np.testing.assert_array_equal(padded[200:206], [1, 2, 3, 1, 2, 3])
    np.testing.assert_array_equal(padded[197:200], [1, 3, 2])


def test_pieces_share_a_batch_and_change_nothing_in_each_other() -> None:
    shapes = network(random_variables(), CONFIG, WindowConfig(whole=0.5, window=0.5, batch=3))
    assert shapes.buckets == ((1, 2_000), (1, 4_000), (1, 8_000), (3, 8_000))
    pieces = [noise(8_000), np.zeros(50, np.float32), noise(5_321, 2)]
    together = enhance_pieces(shapes, pieces)
    for piece, found in zip(pieces, together, strict=True):
        (alone,) = enhance_pieces(shapes, [piece])
        np.testing.assert_allclose(found, alone, atol=1e-5)


@pytest.mark.slow
def test_few_programs_for_files_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred lengths, from one sample to three windows and more, traced and counted but not computed."""
    traced = []

    def trace(variables: Any, padded: np.ndarray, frames: np.ndarray, **how: Any) -> np.ndarray:
        # As jit caches: by shapes, kinds and static arguments.
        traced.append(jax.tree.map(lambda leaf: (np.shape(leaf), np.dtype(leaf.dtype)), (variables, padded, frames)))
        return padded[:, 200:-200]

    monkeypatch.setattr(module, "enhance_padded", trace)
    for windows in (WindowConfig(), WindowConfig(batch=4), WindowConfig(whole=2.0, window=2.0)):
        traced.clear()
        lengths = np.random.default_rng(0).choice(40 * 16_000, 200, replace=False)
        for samples in sorted([1, *lengths[1:].tolist()]):
            audio = noise(samples)
            # The network passes everything through, so levels, padding and windows must cancel out.
            np.testing.assert_allclose(enhance(random_variables(), audio, CONFIG, windows), audio, atol=1e-6)
        kinds = {str(kind) for kind in traced}
        assert len(kinds) <= 4
        assert len(kinds) == len(network(random_variables(), CONFIG, windows).buckets)


def test_the_programs_that_jax_compiles_are_counted_too() -> None:
    before = cast(Any, module.enhance_padded)._cache_size()
    for samples in range(100, 24_000, 700):
        enhance(random_variables(), noise(samples), CONFIG, SHORT)
    assert cast(Any, module.enhance_padded)._cache_size() - before <= 4


def test_clamping_repeats_the_farthest_trained_position() -> None:
    # Crops of the tiny preset have 0.5 s, 80 hops: distances beyond ±80 of the table's ±512 are not trained.
    assert CONFIG.crop_samples == 80 * CONFIG.spectral.hop
    clamped = split_blocks(clamp_distances(random_variables(), CONFIG)["params"])["block_0"]
    original = split_blocks(random_variables()["params"])["block_0"]
    found, table = (part["time"]["attention"]["positions"] for part in (clamped, original))
    np.testing.assert_array_equal(found[: 512 - 80], np.broadcast_to(table[512 - 80], (432, table.shape[1])))
    np.testing.assert_array_equal(found[512 - 80 : 512 + 81], table[512 - 80 : 512 + 81])
    np.testing.assert_array_equal(found[512 + 81 :], np.broadcast_to(table[512 + 80], (432, table.shape[1])))
    np.testing.assert_array_equal(
        clamped["frequency"]["attention"]["positions"], original["frequency"]["attention"]["positions"]
    )


@pytest.mark.parametrize(("clamp", "clamped"), [("never", (0, 0)), ("windows", (0, 1)), ("always", (1, 1))])
def test_where_distances_are_clamped(clamp: Any, clamped: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def table_of(variables: Any, padded: Any, frames: Any, **how: Any) -> Any:
        return variables["params"][BLOCKS]["time"]["attention"]["positions"]

    monkeypatch.setattr(module, "enhance_padded", table_of)
    shapes = network(random_variables(), CONFIG, WindowConfig(clamp=clamp))
    for part, expected in zip((False, True), clamped, strict=True):
        table = shapes.call(noise(1), noise(1), part)
        assert bool((table[:, 0] == table[:, 1]).all()) == bool(expected)


def test_windows_that_cannot_be_are_refused() -> None:
    for wrong in (
        WindowConfig(window=0.1),
        WindowConfig(whole=5.0),
        WindowConfig(edge=-1.0),
        WindowConfig(batch=-1),
        WindowConfig(whole=601.0),
        WindowConfig(window=float("nan")),
        WindowConfig(edge=float("inf")),
        WindowConfig(fade=float("nan")),
        WindowConfig(batch=10**9),
    ):
        with pytest.raises(UserError, match="whole up to"):
            layout(wrong, CONFIG.spectral)
    with pytest.raises(UserError, match="--clamp"):
        network(random_variables(), CONFIG, WindowConfig(clamp="often"))  # pyright: ignore[reportArgumentType]
