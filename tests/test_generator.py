"""The generator: size, padding, shapes; test_parity.py compares its arithmetic with the published one."""

from dataclasses import replace
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.config import GeneratorConfig
from cmgan_jax.models import chunks
from cmgan_jax.models.chunks import Chunks
from cmgan_jax.models.generator import Generator, SubPixel, Upsampling
from cmgan_jax.spectral import magnitude

SMALL = GeneratorConfig(channels=4, blocks=1, heads=2, dense_depth=1, kernel=5, max_distance=3)
BINS = 9
KEY = jax.random.key(3)
# Strides before and after the dense block, each different, so that none can be mistaken for another.
STRIDED = replace(SMALL, early_strides=(2, 4), late_strides=(3,), output_channels=3)
STRIDED_BINS = 2 * 4 * 3 * 2 + 1
SIZES = pytest.mark.parametrize(("config", "bins"), [(SMALL, BINS), (STRIDED, STRIDED_BINS)], ids=["paper", "strided"])


def spectrum(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_paper_size_has_the_published_number_of_parameters() -> None:
    """1,834,833: counted in the published PyTorch model. Nothing is computed."""
    shapes = jax.eval_shape(
        Generator(GeneratorConfig()).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 201), jnp.complex64)
    )
    assert count(shapes["params"]) == 1_834_833


def drawn(config: GeneratorConfig, bins: int) -> Any:
    """Statistics, scales and biases away from 0 and 1, where a mistake could hide; no initialiser is compiled."""
    rng = np.random.default_rng(1)
    noisy = jax.ShapeDtypeStruct((1, 4, bins), jnp.complex64)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        low, high = (-0.4, 0.4) if str(path[-1].key).endswith(("kernel", "positions")) else (0.4, 1.4)
        return rng.uniform(low, high, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(Generator(config).init, jax.random.key(0), noisy))


@SIZES
@pytest.mark.slow
def test_padded_items_equal_items_of_their_own_length(config: GeneratorConfig, bins: int) -> None:
    """Two lengths in one batch: each item as if it were alone, whatever stands in the padding."""
    rng = np.random.default_rng(0)
    lengths = (12, 7)
    items = [spectrum(rng, 1, frames, bins) for frames in lengths]
    variables = drawn(config, bins)

    @jax.jit
    def enhance(noisy: Array, frames: Array | None = None) -> Array:
        return cast(Array, Generator(config).apply(variables, noisy, frames=frames))

    batch = 50 * spectrum(rng, 2, max(lengths), bins)
    for row, item in zip(batch, items, strict=True):
        row[: item.shape[1]] = item[0]
    padded = np.asarray(enhance(batch, np.asarray(lengths)))
    assert np.isfinite(padded).all()
    for row, item in zip(padded, items, strict=True):
        alone = np.asarray(enhance(item))[0]
        np.testing.assert_allclose(row[: len(alone)], alone, atol=1e-5 * np.abs(alone).max())


def test_strides_shrink_the_conformers_and_the_decoders_undo_them() -> None:
    """F = 49 bins, strides 2, 4 and 3: 25, 7 and 3 bins. By hand: (F - 1) / stride + 1 of each."""
    noisy = jax.ShapeDtypeStruct((2, 5, STRIDED_BINS), jnp.complex64)
    seen = {}

    def remember(next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        found = next_call(*args, **kwargs)
        seen[context.module.name] = found
        return found

    def enhance(noisy: Array) -> Any:
        with nn.intercept_methods(remember):
            estimate, _ = Generator(STRIDED).init_with_output(jax.random.key(0), noisy)
        return estimate, {name: seen[name] for name in ("early_0", "early_1", "down", "reduce")}

    estimate, maps = jax.eval_shape(enhance, noisy)
    assert estimate.shape == noisy.shape
    assert {name: each.shape[2] for name, each in maps.items()} == {
        "early_0": 25,
        "early_1": 7,
        "down": 3,
        "reduce": STRIDED_BINS,
    }


def test_decoders_add_the_encoder_features_at_each_resolution() -> None:
    """With every kernel of a decoder's upsampling 0, its result is the finest feature map and constants."""
    features = tuple(np.full((1, 2, bins, 4), value, np.float32) for bins, value in ((25, 3.0), (7, 5.0)))
    upsampling = Upsampling(STRIDED)
    x = np.ones((1, 2, 3, 4), np.float32)
    variables = jax.tree.map(np.zeros_like, upsampling.init(jax.random.key(0), x, features))
    found = upsampling.apply(variables, x, features)
    np.testing.assert_array_equal(np.asarray(found), features[0])


@SIZES
@pytest.mark.slow
def test_keeping_activations_changes_no_gradient(config: GeneratorConfig, bins: int) -> None:
    """`recompute` decides what is stored between the passes; both programs compute the same."""
    noisy, variables = spectrum(np.random.default_rng(2), 2, 6, bins), drawn(config, bins)

    def gradient(recompute: bool) -> Any:
        network = Generator(replace(config, recompute=recompute))

        def energy(params: Any) -> Array:
            estimate, _ = network.apply(
                variables | {"params": params}, noisy, train=True, mutable=["batch_stats"], rngs={"dropout": KEY}
            )
            return jnp.mean(magnitude(cast(Array, estimate)))

        return jax.jit(jax.grad(energy))(variables["params"])

    kept, again = jax.tree.leaves(gradient(False)), jax.tree.leaves(gradient(True))
    largest = max(np.abs(leaf).max() for leaf in again)
    for one, other in zip(kept, again, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * largest)


def test_sub_pixel_interleaves_the_halves_along_frequency() -> None:
    """Kernel 0, bias 0 to 3: even bins take the first half of the channels, odd bins the second."""
    params = {"conv": {"conv": {"kernel": np.zeros((1, 3, 5, 4), np.float32), "bias": np.arange(4, dtype=np.float32)}}}
    found = np.asarray(SubPixel(2).apply({"params": params}, np.ones((1, 2, 3, 5), np.float32)))
    assert found.shape == (1, 2, 6, 2)
    np.testing.assert_array_equal(found[0, 0, 0::2], np.tile([0, 1], (3, 1)))
    np.testing.assert_array_equal(found[0, 0, 1::2], np.tile([2, 3], (3, 1)))


@pytest.mark.parametrize(
    ("shape", "words"), [((4, BINS), r"\[4, 9\], expected \[B, T, F\]"), ((1, 4, 10), "10 bins; strides of 2")]
)
def test_wrong_shapes_are_named(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(Generator(SMALL).init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.complex64))


def training_loss(config: GeneratorConfig, noisy: Any, variables: Any, params: Any) -> tuple[Array, Any]:
    """Loss and moved statistics, dropout on."""
    whole, keys = {**variables, "params": params}, {"dropout": jax.random.key(2)}
    out, moved = Generator(config).apply(whole, noisy, train=True, mutable=["batch_stats"], rngs=keys)
    return jnp.mean(magnitude(cast(Array, out)) ** 2), moved


def training_pass(config: GeneratorConfig, noisy: np.ndarray) -> tuple[Any, Any]:
    """Loss; gradient and moved statistics."""
    variables = drawn(config, noisy.shape[-1])
    # A program of its own for every call: what the tests patch is looked at while it is traced.
    loss = jax.value_and_grad(partial(training_loss, config, noisy, variables), has_aux=True)
    (value, moved), gradient = jax.jit(loss)(variables["params"])
    return value, (gradient, moved)


def kept_bytes(config: GeneratorConfig, noisy: np.ndarray) -> int:
    """What the forward pass keeps for the gradient; nothing is computed."""

    def residual(variables: Any) -> Any:
        loss = partial(training_loss, config, noisy, variables)
        return jax.vjp(loss, variables["params"], has_aux=True)[1]

    kept = jax.eval_shape(residual, drawn(config, noisy.shape[-1]))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


@pytest.mark.slow
def test_how_many_sequences_are_computed_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout on: computed again, and in another chunk, the masks must be the same. Equal but for the order of sums."""
    noisy = spectrum(np.random.default_rng(0), 2, 7, BINS)
    found = []
    # One sequence; 4 of 10 and of 14, so that the last chunk lacks some; all.
    for elements in (1, 4 * 7 * 7 * 2, 10**9):
        monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", {"cpu": elements})
        value, rest = training_pass(replace(SMALL, dropout=0.2), noisy)
        found.append((value, rest))
    scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(found[0]))
    for other in found[1:]:
        for one, two in zip(jax.tree.leaves(found[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(two / scale, one / scale, atol=1e-5)


@pytest.mark.slow
def test_what_a_gpu_computes_otherwise_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks one after the other, sequences in multiples of 8, scores by pair; dropout on. Kernels: `test_kernels`."""
    noisy = spectrum(np.random.default_rng(0), 2, 7, BINS)
    config = replace(SMALL, dropout=0.2, blocks=2)
    value, rest = training_pass(config, noisy)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = training_pass(config, noisy)
    assert Chunks.of(14, 1).size == 16
    scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves((value, rest)))
    for one, two in zip(jax.tree.leaves((value, rest)), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(two / scale, one / scale, atol=1e-5)


def test_a_block_keeps_few_values_for_each_position() -> None:
    """By hand, in channels' widths: 4 inputs and sums of residuals, query, key, value and attention's result, the
    stage's input between, 2 around batch norm: 11 a conformer."""
    noisy = spectrum(np.random.default_rng(0), 2, 64, 33)
    one, three = (kept_bytes(replace(SMALL, dropout=0.2, blocks=n), noisy) for n in (1, 3))
    width = 4 * SMALL.channels * 2 * 64 * 17
    # Beside them: attention's sums, numbers of sequences, parameters.
    assert (three - one) / 2 < 2 * 11 * width * 1.15


@pytest.mark.slow
def test_a_bias_before_a_norm_gets_no_gradient_and_would_change_nothing() -> None:
    """The norm takes each channel's mean away; every other bias has a gradient."""
    rng = np.random.default_rng(2)
    noisy = spectrum(rng, 2, 8, BINS)
    model = Generator(SMALL)
    variables = drawn(SMALL, BINS)

    @jax.jit
    def loss(params: Any) -> Array:
        out, _ = model.apply(
            variables | {"params": params},
            noisy,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        return jnp.sum(jnp.abs(out - noisy))

    def before_norm(path: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        units = ("input", "down", "layer_0", "mask_decoder/reduce")
        return name.endswith(("depthwise_bias", *(f"{unit}/conv/conv/bias" for unit in units)))

    gradient = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables["params"]))
    zero = {path for path, leaf in gradient if "bias" in str(path[-1]) and not np.any(leaf)}
    assert zero == {path for path, _ in gradient if before_norm(path)}
    assert len(zero) == 8
    params = variables["params"]
    moved = jax.tree_util.tree_map_with_path(lambda path, leaf: leaf + before_norm(path), params)
    np.testing.assert_allclose(loss(moved), loss(params), rtol=1e-5)
