"""Kernels for GPUs against the same by XLA. `make test` skips what needs a GPU; all else runs everywhere."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.config import Backend, GeneratorConfig
from cmgan_jax.models import kernels
from cmgan_jax.models.attention import RelativeAttention
from cmgan_jax.models.conformer import Convolution, FeedForward
from cmgan_jax.models.convolution import convolve

SEQUENCES = 8
CONFIG = GeneratorConfig()
# Heads of 4 channels, and a hidden layer as narrow as a product may be: what blocks pad.
NARROW = replace(CONFIG, channels=16, kernel=5)
NUMBERS = jnp.arange(SEQUENCES, dtype=jnp.uint32) + np.uint32(5)
# Prefixes, as padded recordings have them; one of a single position.
VALID = jnp.arange(101) < jnp.asarray([101, 90, 33, 101, 64, 1, 50, 100])[:, None]
# The tests' own set-up asks for a CPU: JAX_PLATFORMS=cuda pytest tests/test_kernels.py
ON_GPU = pytest.mark.skipif(not kernels.available(), reason="no NVIDIA GPU (JAX_PLATFORMS=cuda), or no jax_triton")


class Part(NamedTuple):
    """A function of an input and parameters, and where it is taken."""

    apply: Callable[[Array, Any], Any]
    parameters: Any
    positions: int
    channels: int

    @property
    def x(self) -> Array:
        return normal(SEQUENCES, self.positions, self.channels)


def normal(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def part_of(module: nn.Module, config: GeneratorConfig, *arguments: Any, method: str = "__call__") -> Part:
    """A module, dropout on."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    x = normal(SEQUENCES, 101, config.channels)
    parameters = module.init(keys, x, *arguments, method=method)["params"]
    rngs = {"dropout": jax.random.key(2)}
    return Part(
        lambda x, p: module.apply({"params": p}, x, *arguments, method=method, rngs=rngs),
        parameters,
        101,
        config.channels,
    )


def attention(config: GeneratorConfig, positions: int = 101, valid: Array | None = None) -> Part:
    module = RelativeAttention(config)
    rngs = {"dropout": jax.random.key(2)}

    def attend(x: Array, p: Any) -> Any:
        distances = module.apply({"params": p}, positions, method="distances")
        return module.apply({"params": p}, x, NUMBERS, distances, True, valid, rngs=rngs)

    distances = normal(2 * positions - 1, config.channels // config.heads)
    x = normal(SEQUENCES, positions, config.channels)
    parameters = module.init(jax.random.key(0), x, NUMBERS, distances, False)["params"]
    return Part(attend, parameters, positions, config.channels)


def convolution(
    config: GeneratorConfig, taps: tuple[int, int], parts: int, stride: int, early: int, dilation: int
) -> Part:
    def apply(x: Array, kernel: Array) -> Any:
        image = x.reshape(2, SEQUENCES // 2, 101, CONFIG.channels)
        inputs = tuple(image * (1 + i) for i in range(parts))
        return convolve(inputs, kernel.astype(x.dtype), stride, ((early, 0), (1, 1)), dilation, config.backend)

    return Part(apply, normal(*taps, parts * CONFIG.channels, CONFIG.channels), 101, CONFIG.channels)


PARTS = {
    "attention": (CONFIG, attention),
    "attention, masked": (CONFIG, lambda config: attention(config, valid=VALID)),
    "attention, farther than its table": (replace(CONFIG, max_distance=20), attention),
    "attention, narrow heads": (NARROW, lambda config: attention(config, 33)),
    "attention, whole blocks": (CONFIG, lambda config: attention(config, 64)),
    "attention, one position": (CONFIG, lambda config: attention(config, 1)),
    "feed-forward": (CONFIG, lambda config: part_of(FeedForward(config), config, NUMBERS, True)),
    "feed-forward without dropout": (CONFIG, lambda config: part_of(FeedForward(config), config, NUMBERS, False)),
    "feed-forward, narrow": (NARROW, lambda config: part_of(FeedForward(config), config, NUMBERS, True)),
    "gated and depthwise": (CONFIG, lambda config: part_of(Convolution(config), config, None, method="before_norm")),
    "gated and depthwise, narrow": (
        NARROW,
        lambda config: part_of(Convolution(config), config, None, method="before_norm"),
    ),
    "dilated convolution of parts": (CONFIG, lambda config: convolution(config, (2, 3), 2, 1, 2, 2)),
    "convolution with a stride": (CONFIG, lambda config: convolution(config, (1, 3), 1, 2, 0, 1)),
}


def part(name: str, backend: Backend) -> Part:
    config, make = PARTS[name]
    return make(replace(config, backend=backend))


def passes(part: Part, kind: Any, products: str = "highest") -> Any:
    """Value, gradient of the input and gradients of the parameters."""

    def both(x: Array, p: Any) -> Any:
        value, pull = jax.vjp(part.apply, x, p)
        return value, *pull(jnp.sin(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape).astype(value.dtype))

    with jax.default_matmul_precision(products):
        return jax.jit(both)(part.x.astype(kind), part.parameters)


def worst(found: Any, exact: Any) -> float:
    """Largest error of an array as a share of its norm, or of 1e-3 of the largest norm where that is more."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    arrays = [(np.asarray(one, np.float64), np.asarray(other, np.float64)) for one, other in pairs]
    least = 1e-3 * max(float(np.linalg.norm(other)) for _, other in arrays)
    # NumPy's maximum is NaN if one of them is.
    return float(np.max([np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), least) for a, b in arrays]))


@pytest.mark.gpu
@ON_GPU
@pytest.mark.parametrize("name", PARTS)
def test_kernels_give_values_and_gradients_of_the_plain_form(name: str) -> None:
    """In float32 to 1e-5; in bfloat16 and TF32 no farther from that than the plain form, by half and a little."""
    by_xla, by_kernels = part(name, "xla"), part(name, "triton")
    exact, plain = passes(by_xla, jnp.float32), passes(by_xla, jnp.bfloat16)
    assert worst(passes(by_kernels, jnp.float32), exact) < 1e-5
    assert worst(passes(by_kernels, jnp.bfloat16), exact) < 1.5 * worst(plain, exact) + 1e-3
    # TF32 keeps three bits more than bfloat16.
    assert worst(passes(by_kernels, jnp.float32, "default"), exact) < 1.5 * worst(plain, exact) + 1e-3


def test_an_error_that_is_no_number_is_an_error() -> None:
    """Wherever it stands, also where the exact value is zero."""
    assert not worst([np.ones(2), np.array([np.nan])], [np.ones(2), np.zeros(1)]) < 1.0
    assert worst([np.ones(2), np.ones(1)], [np.ones(2), np.zeros(1)]) > 100


def test_a_cpu_has_no_kernels() -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("no CPU is computed on here")
    assert not kernels.available()


@pytest.mark.parametrize(
    ("kind", "capability", "present", "said"),
    [
        ("NVIDIA H100", "9.0", False, True),
        ("NVIDIA H100", "9.0", True, False),
        ("Tesla T4 (NVIDIA)", "7.5", False, False),
        ("AMD Instinct", "gfx942", False, False),
    ],
)
def test_training_says_where_kernels_are_lacking(
    kind: str, capability: str, present: bool, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that could run them, and nothing to launch them with."""
    device = SimpleNamespace(device_kind=kind, compute_capability=capability)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    monkeypatch.setattr(kernels, "available", lambda: present)
    words = kernels.lacking()
    assert (words is not None and "jax_triton is not installed" in words) is said
