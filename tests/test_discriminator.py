"""The discriminator: size, spectral norm, shapes; test_parity.py compares its arithmetic with the published one."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.config import DiscriminatorConfig
from cmgan_jax.models.discriminator import Discriminator, SpectralNorm

SMALL = DiscriminatorConfig(channels=2)
KERNEL = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)


def matrix_of(kernel: Any) -> np.ndarray:
    """Outputs × (inputs, taps) in float64: the matrix whose norm counts."""
    return np.asarray(kernel, np.float64).transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)


def start() -> Any:
    return jax.jit(SpectralNorm().init, static_argnums=2)(jax.random.key(0), KERNEL, True)["batch_stats"]


@partial(jax.jit, static_argnums=2)
def passed(stats: Any, kernel: Any, train: bool) -> tuple[Any, Any]:
    """Effective kernel and vectors after one pass."""
    effective, updated = SpectralNorm().apply({"batch_stats": stats}, kernel, train, mutable=["batch_stats"])
    return effective, updated["batch_stats"]


def test_paper_size_has_the_published_number_of_parameters() -> None:
    """181,650: counted in the published PyTorch model. Nothing is computed."""
    magnitude = jax.ShapeDtypeStruct((1, 16, 201), jnp.float32)
    shapes = jax.eval_shape(Discriminator(DiscriminatorConfig()).init, jax.random.key(0), magnitude, magnitude)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 181_650


def test_many_passes_find_the_largest_singular_value() -> None:
    stats, effective = jax.lax.scan(lambda stats, _: passed(stats, KERNEL, True)[::-1], start(), length=300)
    assert np.linalg.norm(matrix_of(effective[-1]), 2) == pytest.approx(1, abs=1e-4)
    assert np.linalg.norm(stats["u"]) == pytest.approx(1, abs=1e-6)


def test_one_power_iteration_a_training_pass_and_none_in_evaluation() -> None:
    """v' = unit(Wᵀ u), u' = unit(W v'), kernel / (u' W v'), in float64; then the gradient with u and v held fixed."""
    stats, matrix = start(), matrix_of(KERNEL)
    v = matrix.T @ np.asarray(stats["u"], np.float64)
    v /= np.linalg.norm(v)
    u = matrix @ v
    u /= np.linalg.norm(u)
    sigma = u @ matrix @ v

    effective, moved = passed(stats, KERNEL, True)
    np.testing.assert_allclose(moved["u"], u, atol=1e-5)
    np.testing.assert_allclose(moved["v"], v, atol=1e-5)
    np.testing.assert_allclose(effective, KERNEL / sigma, atol=1e-5)

    still, kept = passed(stats, KERNEL, False)
    for name in ("u", "v"):
        np.testing.assert_array_equal(kept[name], stats[name])
    first = np.asarray(stats["u"], np.float64) @ matrix @ np.asarray(stats["v"], np.float64)
    np.testing.assert_allclose(still, KERNEL / first, rtol=1e-4)

    cotangent = np.random.default_rng(1).normal(size=KERNEL.shape).astype(np.float32)

    def project(kernel: Array) -> Array:
        return jnp.sum(cotangent * passed(stats, kernel, True)[0])

    # d/dW of sum(c · W) / (uᵀ W v) with constant u, v. A gradient through the iteration would differ by O(1).
    c = matrix_of(cotangent)
    expected = c / sigma - np.sum(c * matrix) / sigma**2 * np.outer(u, v)
    np.testing.assert_allclose(matrix_of(jax.grad(project)(KERNEL)), expected, atol=1e-4)


def test_training_moves_every_vector_and_evaluation_none() -> None:
    rng = np.random.default_rng(0)
    clean, other = rng.uniform(size=(2, 3, 16, 17)).astype(np.float32)
    model = Discriminator(SMALL)
    shapes = jax.eval_shape(model.init, jax.random.key(0), clean, other)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    finding, trained = jax.jit(
        lambda v: model.apply(v, clean, other, True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)})
    )(variables)
    evaluated, kept = jax.jit(lambda v: model.apply(v, clean, other, mutable=["batch_stats"]))(variables)
    assert finding.shape == evaluated.shape == (3,)
    assert ((finding > 0) & (finding < 1)).all()
    before, after, same = (
        jax.tree.leaves(tree) for tree in (variables["batch_stats"], trained["batch_stats"], kept["batch_stats"])
    )
    assert len(before) == 2 * 6  # u and v of four convolutions and two linear layers
    assert not any(np.allclose(one, other) for one, other in zip(before, after, strict=True) if one.size > 1)
    for one, other in zip(before, same, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("clean", "other", "words"),
    [
        ((16, 16), (16, 16), r"clean magnitude has shape \[16, 16\], expected \[B, T, F\]"),
        ((1, 16, 16), (1, 16, 17), r"scored magnitude has shape \[1, 16, 17\], expected \[1, 16, 16\]"),
        ((1, 15, 16), (1, 15, 16), r"\[1, 15, 16\].*16 frames"),
    ],
)
def test_wrong_shapes_are_named(clean: tuple[int, ...], other: tuple[int, ...], words: str) -> None:
    arrays = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (clean, other))
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(Discriminator(SMALL).init, jax.random.key(0), *arrays)
