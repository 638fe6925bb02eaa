"""The generator: size, padding, shapes; test_parity.py compares its arithmetic with the published one."""

from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.config import GeneratorConfig
from cmgan_jax.models.generator import Generator, SubPixel
from cmgan_jax.spectral import magnitude

SMALL = GeneratorConfig(channels=4, blocks=1, heads=2, dense_depth=1, kernel=5, max_distance=3)
BINS = 9


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


def test_padded_items_equal_items_of_their_own_length() -> None:
    """Two lengths in one batch: each item as if it were alone, whatever stands in the padding."""
    rng = np.random.default_rng(0)
    lengths = (12, 7)
    items = [spectrum(rng, 1, frames, BINS) for frames in lengths]
    # Statistics and one-dimensional parameters away from 0 and 1, where a mistake could hide; no initialiser compiled.
    shapes = jax.eval_shape(Generator(SMALL).init, jax.random.key(0), items[0])
    variables = jax.tree.map(
        lambda leaf: rng.uniform(-0.4 if leaf.ndim > 1 else 0.4, 0.4 + (leaf.ndim == 1), leaf.shape).astype(np.float32),
        shapes,
    )

    @jax.jit
    def enhance(noisy: Array, frames: Array | None = None) -> Array:
        return cast(Array, Generator(SMALL).apply(variables, noisy, frames=frames))

    batch = 50 * spectrum(rng, 2, max(lengths), BINS)
    for row, item in zip(batch, items, strict=True):
        row[: item.shape[1]] = item[0]
    padded = np.asarray(enhance(batch, np.asarray(lengths)))
    assert np.isfinite(padded).all()
    for row, item in zip(padded, items, strict=True):
        alone = np.asarray(enhance(item))[0]
        np.testing.assert_allclose(row[: len(alone)], alone, atol=1e-5 * np.abs(alone).max())


def test_sub_pixel_interleaves_the_halves_along_frequency() -> None:
    """Kernel 0, bias 0 to 3: even bins take the first half of the channels, odd bins the second."""
    params = {"conv": {"conv": {"kernel": np.zeros((1, 3, 5, 4), np.float32), "bias": np.arange(4, dtype=np.float32)}}}
    found = np.asarray(SubPixel(2).apply({"params": params}, np.ones((1, 2, 3, 5), np.float32)))
    assert found.shape == (1, 2, 6, 2)
    np.testing.assert_array_equal(found[0, 0, 0::2], np.tile([0, 1], (3, 1)))
    np.testing.assert_array_equal(found[0, 0, 1::2], np.tile([2, 3], (3, 1)))


@pytest.mark.parametrize(
    ("shape", "words"), [((4, BINS), r"\[4, 9\], expected \[B, T, F\]"), ((1, 4, 10), "10 bins.*odd")]
)
def test_wrong_shapes_are_named(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(Generator(SMALL).init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.complex64))


def test_remat_keeps_less_and_changes_no_gradient() -> None:
    """Dropout on: computed again, the masks must be the same. Equal but for the order of sums."""
    config = replace(SMALL, dropout=0.2)
    noisy = spectrum(np.random.default_rng(0), 2, 7, BINS)
    variables = cast(dict[str, Any], Generator(config).init(jax.random.key(0), noisy))
    found, kept = [], []
    for remat in (False, True):
        model = Generator(config, remat=remat)

        def loss(params: Any, model: Generator = model) -> tuple[Array, Any]:
            whole = {**variables, "params": params}
            keys = {"dropout": jax.random.key(2)}
            out, moved = model.apply(whole, noisy, train=True, mutable=["batch_stats"], rngs=keys)
            return jnp.mean(magnitude(cast(Array, out)) ** 2), moved

        value, pull, moved = jax.vjp(loss, variables["params"], has_aux=True)
        kept.append(sum(leaf.nbytes for leaf in jax.tree.leaves(pull)))
        found.append((value, pull(jnp.ones_like(value)), moved))
    assert kept[1] < 0.7 * kept[0]
    scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(found[0]))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(other / scale, one / scale, atol=1e-5)


def test_a_bias_before_a_norm_gets_no_gradient_and_would_change_nothing() -> None:
    """The norm takes each channel's mean away; every other bias has a gradient."""
    rng = np.random.default_rng(2)
    noisy = spectrum(rng, 2, 8, BINS)
    model = Generator(SMALL)
    variables = jax.jit(model.init)(jax.random.key(0), noisy)

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
