"""Layers that have a kernel for GPUs, each with dropout, masks and gradients, to be compared with the plain form."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import Backend, GeneratorConfig
from cmgan_jax.models.attention import RelativeAttention
from cmgan_jax.models.conformer import Convolution, FeedForward
from cmgan_jax.models.convolution import convolve

SEQUENCES = 8
CONFIG = GeneratorConfig()
NARROW = replace(CONFIG, channels=16, kernel=5)
"""Heads of 4 channels, and a hidden layer as narrow as a product may be: what blocks pad."""
NUMBERS = np.arange(SEQUENCES, dtype=np.uint32) + np.uint32(5)
VALID = np.arange(101) < np.asarray([101, 90, 33, 101, 64, 1, 50, 100])[:, None]
"""Prefixes, as padded recordings have them; one of a single position."""


class Part(NamedTuple):
    """A function of an input and parameters, and where it is taken."""

    apply: Callable[[Array, Any], Any]
    parameters: Any
    positions: int
    channels: int

    @property
    def x(self) -> Array:
        """The input, float[sequences, positions, channels]."""
        return normal(SEQUENCES, self.positions, self.channels)


def normal(*shape: int) -> Array:
    """Numbers of a standard normal distribution, the same for the same shape."""
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


def attention(config: GeneratorConfig, positions: int = 101, valid: np.ndarray | None = None) -> Part:
    """Attention with relative positions, dropout on.

    Args:
        config: sizes.
        positions: of a sequence.
        valid: bool[sequences, positions], which of them exist; None: all.
    """
    module = RelativeAttention(config)
    rngs = {"dropout": jax.random.key(2)}
    mask = None if valid is None else jnp.asarray(valid)
    numbers = jnp.asarray(NUMBERS)

    def attend(x: Array, p: Any) -> Any:
        distances = module.apply({"params": p}, positions, method="distances")
        return module.apply({"params": p}, x, numbers, distances, True, mask, rngs=rngs)

    distances = normal(2 * positions - 1, config.channels // config.heads)
    x = normal(SEQUENCES, positions, config.channels)
    parameters = module.init(jax.random.key(0), x, numbers, distances, False)["params"]
    return Part(attend, parameters, positions, config.channels)


def convolution(
    config: GeneratorConfig, taps: tuple[int, int], parts: int, stride: int, early: int, dilation: int
) -> Part:
    """A convolution over several inputs at once, as dense blocks have it."""

    def apply(x: Array, kernel: Array) -> Any:
        image = x.reshape(2, SEQUENCES // 2, 101, CONFIG.channels)
        inputs = tuple(image * (1 + i) for i in range(parts))
        return convolve(inputs, kernel.astype(x.dtype), stride, ((early, 0), (1, 1)), dilation, config.backend)

    return Part(apply, normal(*taps, parts * CONFIG.channels, CONFIG.channels), 101, CONFIG.channels)


def feed_forward(config: GeneratorConfig, dropout: bool = True) -> Part:
    """A feed-forward layer."""
    return part_of(FeedForward(config), config, jnp.asarray(NUMBERS), dropout)


def gated(config: GeneratorConfig) -> Part:
    """The gate and the depthwise convolution, up to batch norm."""
    return part_of(Convolution(config), config, None, method="before_norm")


PARTS: dict[str, tuple[GeneratorConfig, Callable[[GeneratorConfig], Part]]] = {
    "attention": (CONFIG, attention),
    "attention, masked": (CONFIG, lambda config: attention(config, valid=VALID)),
    "attention, farther than its table": (replace(CONFIG, max_distance=20), attention),
    "attention, narrow heads": (NARROW, lambda config: attention(config, 33)),
    "attention, whole blocks": (CONFIG, lambda config: attention(config, 64)),
    "attention, one position": (CONFIG, lambda config: attention(config, 1)),
    "feed-forward": (CONFIG, feed_forward),
    "feed-forward without dropout": (CONFIG, lambda config: feed_forward(config, False)),
    "feed-forward, narrow": (NARROW, feed_forward),
    "gated and depthwise": (CONFIG, gated),
    "gated and depthwise, narrow": (NARROW, gated),
    "dilated convolution of parts": (CONFIG, lambda config: convolution(config, (2, 3), 2, 1, 2, 2)),
    "convolution with a stride": (CONFIG, lambda config: convolution(config, (1, 3), 1, 2, 0, 1)),
}
"""By name: sizes, and how the part is made of them."""
SMALLEST = ("feed-forward, narrow",)
"""What a rehearsal compares."""


def part(name: str, backend: Backend) -> Part:
    """One of `PARTS`, computed in that way."""
    config, make = PARTS[name]
    return make(replace(config, backend=backend))


def passes(part: Part, kind: Any, products: str = "highest") -> Any:
    """Value, gradient of the input and gradients of the parameters.

    Args:
        part: what is computed.
        kind: type of the input.
        products: precision of products of float32, as JAX names it.
    """

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


EXACT = 1e-5
"""Largest error of a kernel in float32."""


def allowed(plain: float) -> float:
    """Largest error of a kernel in bfloat16 or TF32 (three bits more), beside the plain form's in bfloat16."""
    return 1.5 * plain + 1e-3
