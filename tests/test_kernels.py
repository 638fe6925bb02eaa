"""Kernels for GPUs against the same by XLA. `make test` skips what needs a GPU; all else runs everywhere."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.config import GeneratorConfig
from cmgan_jax.models import kernels
from cmgan_jax.models.attention import RelativeAttention
from cmgan_jax.models.conformer import Convolution, FeedForward
from cmgan_jax.models.convolution import convolve

SEQUENCES, POSITIONS = 8, 101
CONFIG = GeneratorConfig()
NUMBERS = jnp.arange(SEQUENCES, dtype=jnp.uint32) + np.uint32(5)
# Prefixes, as padded recordings have them; one of a single position.
VALID = jnp.arange(POSITIONS) < jnp.asarray([101, 90, 33, 101, 64, 1, 50, 100])[:, None]
ON_GPU = pytest.mark.skipif(not kernels.available(), reason="no NVIDIA GPU, or no jax_triton to launch kernels there")

Part = tuple[Callable[[Array, Any], Array], Any]


def normal(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def part_of(module: nn.Module, *arguments: Any, method: str = "__call__") -> Part:
    """A module as a function of its input and its parameters, dropout on."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    x = normal(SEQUENCES, POSITIONS, CONFIG.channels)
    parameters = module.init(keys, x, *arguments, method=method)["params"]
    rngs = {"dropout": jax.random.key(2)}
    return lambda x, p: module.apply({"params": p}, x, *arguments, method=method, rngs=rngs), parameters  # pyright: ignore[reportReturnType]


def attention(config: GeneratorConfig, valid: Array | None) -> Part:
    module = RelativeAttention(config)
    _, parameters = part_of(module, NUMBERS, normal(2 * POSITIONS - 1, config.channels // config.heads), False)
    rngs = {"dropout": jax.random.key(2)}

    def attend(x: Array, p: Any) -> Array:
        distances = module.apply({"params": p}, POSITIONS, method="distances")
        return module.apply({"params": p}, x, NUMBERS, distances, True, valid, rngs=rngs)  # pyright: ignore[reportReturnType]

    return attend, parameters


def convolution(taps: tuple[int, int], parts: int, stride: int, early: int, dilation: int) -> Part:
    def apply(x: Array, kernel: Array) -> Array:
        image = x.reshape(2, SEQUENCES // 2, POSITIONS, CONFIG.channels)
        inputs = tuple(image * (1 + i) for i in range(parts))
        return convolve(inputs, kernel.astype(x.dtype), stride, ((early, 0), (1, 1)), dilation)

    return apply, normal(*taps, parts * CONFIG.channels, CONFIG.channels)


PARTS = {
    "attention": lambda: attention(CONFIG, None),
    "attention, masked": lambda: attention(CONFIG, VALID),
    "attention, farther than its table": lambda: attention(replace(CONFIG, max_distance=20), None),
    "feed-forward": lambda: part_of(FeedForward(CONFIG), NUMBERS, True),
    "feed-forward without dropout": lambda: part_of(FeedForward(CONFIG), NUMBERS, False),
    "gated and depthwise": lambda: part_of(Convolution(CONFIG), None, method="before_norm"),
    "dilated convolution of parts": lambda: convolution((2, 3), 2, 1, 2, 2),
    "convolution with a stride": lambda: convolution((1, 3), 1, 2, 0, 1),
}


def passes(part: Part, kind: Any) -> Any:
    """Value, gradient of the input and gradients of the parameters, products of float32 exact."""
    apply, parameters = part

    def both(x: Array, p: Any) -> Any:
        value, pull = jax.vjp(apply, x, p)
        return value, *pull(jnp.sin(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape).astype(value.dtype))

    with jax.default_matmul_precision("highest"):
        return jax.jit(both)(normal(SEQUENCES, POSITIONS, CONFIG.channels).astype(kind), parameters)


def errors(found: Any, exact: Any) -> list[float]:
    """Of each array that is not zero, as a share of its norm."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    arrays = [(np.asarray(one, np.float64), np.asarray(other, np.float64)) for one, other in pairs]
    return [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in arrays if np.linalg.norm(b) > 1e-6]


@ON_GPU
@pytest.mark.parametrize("name", PARTS)
def test_kernels_give_values_and_gradients_of_the_plain_form(name: str) -> None:
    """In float32 to 1e-5; in bfloat16 they are no farther from the exact ones than the plain form is, by half."""
    part = PARTS[name]()
    with kernels.left_out():
        exact, plain = passes(part, jnp.float32), passes(part, jnp.bfloat16)
    assert max(errors(passes(part, jnp.float32), exact)) < 1e-5
    assert max(errors(passes(part, jnp.bfloat16), exact)) < 1.5 * max(errors(plain, exact))


def test_kernels_are_left_out_where_they_are_told_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program for a file, which another machine may run."""
    monkeypatch.setattr(kernels, "_present", lambda: True)
    assert kernels.available()
    with kernels.left_out():
        assert not kernels.available()
    assert kernels.available()


def test_a_cpu_has_no_kernels() -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("no CPU is computed on here")
    assert not kernels.available()
