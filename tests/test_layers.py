"""Layers against library operations and formulas in float64, on one device and on four."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.models.convolution import convolve
from cmgan_jax.models.depthwise import depthwise
from cmgan_jax.models.layers import BatchNorm, Conv, Dropout, InstanceNorm, LayerNorm, PReLU, row_indices
from cmgan_jax.shapes import AXIS

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def floats(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


def train(module: nn.Module, variables: Any, x: Any) -> tuple[Any, Any]:
    """Output and moved statistics of a training pass."""
    out, updated = module.apply(variables, x, True, mutable=["batch_stats"])
    return out, updated["batch_stats"]


@pytest.mark.parametrize("positions", [9, 2, 70])
def test_depthwise_is_a_grouped_convolution(positions: int) -> None:
    """Values and both gradients equal those of the library's grouped convolution, also where the kernel is longer.

    70 positions are three blocks of 24, two of which stand for no position.
    """
    x, kernel, cotangent = normal(3, positions, 4), normal(5, 4), normal(3, positions, 4)

    def grouped(x: Array, kernel: Array) -> Array:
        numbers = ("NWC", "WIO", "NWC")
        weights = kernel[:, None]
        return jax.lax.conv_general_dilated(x, weights, (1,), "SAME", dimension_numbers=numbers, feature_group_count=4)

    found, pull = jax.vjp(depthwise, x, kernel)
    expected, pull_expected = jax.vjp(grouped, x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for one, other in zip(pull(cotangent), pull_expected(cotangent), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((2, 3), 1, ((4, 0), (1, 1)), 4),
        ((1, 3), 2, ((0, 0), (1, 1)), 1),
        ((1, 3), 2, ((0, 0), (0, 0)), 1),
        ((1, 2), 1, ((0, 0), (0, 0)), 1),
        ((3, 2), 1, ((1, 2), (0, 1)), 1),
    ],
)
@pytest.mark.parametrize("bins", [9, 10])
@pytest.mark.parametrize("ends", [(), (1,), (2, 3)])
def test_convolution_has_the_derivative_of_the_plain_form(
    kernel: tuple[int, int], stride: int, padding: Any, dilation: int, bins: int, ends: tuple[int, ...]
) -> None:
    """Values and both gradients equal those of the library's convolution, in one part or in several side by side."""
    x, weights = normal(2, 7, bins, 5), normal(*kernel, 5, 4)

    def plain(x: Array, weights: Array) -> Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, weights, (1, stride), padding, rhs_dilation=(dilation, 1), dimension_numbers=numbers
        )

    expected, pull_expected = jax.vjp(plain, x, weights)

    def in_parts(x: Array, weights: Array) -> Array:
        return convolve(tuple(jnp.split(x, ends, axis=-1)), weights, stride, padding, dilation)

    found, pull = cast(Any, jax.vjp(in_parts, x, weights))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    cotangent = normal(*expected.shape)
    for one, other in zip(pull(cotangent), pull_expected(cotangent), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def kept(seed: int, x: np.ndarray, rate: float = 0.2) -> np.ndarray:
    numbers = row_indices(len(x), None)
    return np.asarray(Dropout(rate).apply({}, x, numbers, True, rngs={"dropout": jax.random.key(seed)}))


def test_dropout_keeps_the_share_and_the_expectation() -> None:
    """Four standard deviations of a binomial, for the share, for pairs of neighbours and for pairs of seeds."""
    x = np.ones((8, 50, 100), np.float32)
    mask = kept(0, x) > 0
    np.testing.assert_array_equal(kept(0, x), np.where(mask, np.float32(1 / 0.8), 0))

    def check_share(found: np.ndarray, probability: float) -> None:
        allowed = 4 * np.sqrt(probability * (1 - probability) / found.size)
        assert np.mean(found) == pytest.approx(probability, abs=allowed)

    check_share(mask, 0.8)
    for axis in range(3):
        check_share(
            np.take(mask, range(0, x.shape[axis], 2), axis) & np.take(mask, range(1, x.shape[axis], 2), axis), 0.64
        )
    check_share(mask & (kept(1, x) > 0), 0.64)


def test_dropout_is_off_in_evaluation_and_at_rate_0() -> None:
    x = normal(3, 4)
    numbers = row_indices(len(x), None)
    np.testing.assert_array_equal(Dropout(0.2).apply({}, x, numbers, False), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, numbers, True), x)


def test_dropout_does_not_depend_on_the_number_of_devices() -> None:
    x = normal(8, 5, 3)
    key = jax.random.key(3)

    def drop(rows: Array, key: Array) -> Any:
        return Dropout(0.5).apply({}, rows, row_indices(len(rows), AXIS), True, rngs={"dropout": key})

    spread = jax.pmap(drop, AXIS, in_axes=(0, None))
    np.testing.assert_array_equal(np.reshape(spread(x.reshape(4, 2, 5, 3), key), x.shape), kept(3, x, 0.5))


def statistics(mean: Any, variance: Any) -> dict[str, Any]:
    scaled = {"scale": floats([2, 1, 0.5]), "bias": floats([0, -1, 3])}
    return {"params": scaled, "batch_stats": {"mean": floats(mean), "variance": floats(variance)}}


def batch_normed(variables: dict[str, Any], x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return (x - mean) / np.sqrt(variance + 1e-5) * variables["params"]["scale"] + variables["params"]["bias"]


def test_batch_norm_biased_to_normalise_unbiased_to_remember() -> None:
    """PyTorch's convention: momentum 0.1 is the share of the new; n / (n - 1) in the running variance only."""
    variables = statistics([1, 2, 3], [4, 5, 6])
    x = normal(8, 2, 3) * 3 + 7
    mean, variance = x.mean((0, 1), dtype=np.float64), x.var((0, 1), dtype=np.float64)

    found, moved = train(BatchNorm(3), variables, x)
    np.testing.assert_allclose(found, batch_normed(variables, x, mean, variance), atol=1e-5)
    np.testing.assert_allclose(moved["mean"], 0.9 * np.array([1, 2, 3]) + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(moved["variance"], 0.9 * np.array([4, 5, 6]) + 0.1 * variance * 16 / 15, rtol=1e-5)

    evaluated: Any = BatchNorm(3).apply(variables, x, False)
    np.testing.assert_allclose(
        evaluated, batch_normed(variables, x, np.array([1, 2, 3]), np.array([4, 5, 6])), atol=1e-5
    )


def test_batch_norm_of_what_counts() -> None:
    """Statistics, what is remembered and gradients are those of the six rows that count, whatever the others hold."""
    rows, filler = normal(6, 2, 3) * 3 + 7, np.full((2, 2, 3), 1e3, np.float32)
    cut, counted = (
        np.concatenate([rows, filler]).reshape(2, 4, 2, 3),
        np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.float32),
    )
    variables = statistics([1, 2, 3], [4, 5, 6])

    def moments(x: Any, counted: Any = None) -> Any:
        norm = BatchNorm(3)
        return norm.apply(variables, x, True, counted, method=BatchNorm.moments, mutable=["batch_stats"])

    found, expected = moments(cut, counted), moments(rows)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(moments(x, counted)[0][1]))(cut).reshape(8, 2, 3)
    np.testing.assert_allclose(gradient[:6], jax.grad(lambda x: jnp.sum(moments(x)[0][1]))(rows), atol=1e-5)
    np.testing.assert_array_equal(gradient[6:], 0.0)


def test_batch_norm_over_four_devices_is_that_of_the_whole_batch() -> None:
    variables = statistics([1, 2, 3], [4, 5, 6])
    # Devices see different means: an average of their own variances would be far too small.
    x = normal(8, 2, 3) + np.repeat(np.arange(4, dtype=np.float32) * 10, 2)[:, None, None]
    whole, expected = train(BatchNorm(3), variables, x)

    found, moved = jax.pmap(lambda rows: train(BatchNorm(3, AXIS), variables, rows), AXIS)(x.reshape(4, 2, 2, 3))
    np.testing.assert_allclose(np.reshape(found, x.shape), whole, atol=1e-5)
    for name, statistic in expected.items():
        np.testing.assert_allclose(moved[name], np.tile(statistic, (4, 1)), rtol=1e-5)


def test_instance_norm_ignores_padding() -> None:
    """Biased variance over frames and bins; frames beyond `valid` count for nothing, whatever they hold."""
    x = normal(2, 7, 3, 3) * 2 + 5
    lengths = np.array([7, 4])
    valid = np.arange(7) < lengths[:, None]
    variables = {"params": statistics(0, 1)["params"]}
    padded = np.where(valid[:, :, None, None], x, np.float32(1e4))
    apply = jax.jit(InstanceNorm().apply)
    found = np.asarray(apply(variables, padded, valid))
    for i, frames in enumerate(lengths):
        item = x[i, :frames].astype(np.float64)
        expected = batch_normed(variables, item, item.mean((0, 1)), item.var((0, 1)))
        np.testing.assert_allclose(found[i, :frames], expected, atol=1e-4)
        alone = cast(Array, apply(variables, x[i : i + 1, :frames]))
        np.testing.assert_allclose(alone[0], expected, atol=1e-5)


def test_prelu_has_a_slope_for_each_channel() -> None:
    x = floats([[-2, -2], [4, 4]])
    variables = {"params": {"slope": floats([0.5, -0.25])}}
    np.testing.assert_array_equal(PReLU().apply(variables, x), [[-1, 0.5], [4, 4]])
    gradient = jax.grad(lambda v: jnp.sum(cast(Array, PReLU().apply(v, x))))(variables)
    np.testing.assert_array_equal(gradient["params"]["slope"], [-2, -2])
    np.testing.assert_array_equal(PReLU(-0.25).init(jax.random.key(0), x)["params"]["slope"], [-0.25, -0.25])


def test_layer_norm_survives_a_large_mean() -> None:
    """E[x²] - E[x]² in float32 would lose a variance of 1 beside a mean of 3000."""
    x = normal(4, 64) + 3000
    found, _ = LayerNorm().init_with_output(jax.random.key(0), x)
    exact = x.astype(np.float64)
    expected = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_initial_weights_are_uniform_within_the_fan_in() -> None:
    """PyTorch's default: ±1 / sqrt(fan_in) for kernel and bias, here a fan-in of 2 · 3 · 5 = 30."""
    made = jax.jit(Conv(200, (2, 3)).init)(jax.random.key(0), np.zeros((1, 4, 4, 5), np.float32))["params"]["conv"]
    bound = 1 / np.sqrt(30)
    for name, tolerance in (("kernel", 0.02), ("bias", 0.15)):
        values = np.asarray(made[name])
        assert bound * 0.95 < np.abs(values).max() <= bound, name
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=tolerance), name
