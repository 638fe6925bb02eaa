"""What a device can do at best, measured: a copy through memory and a matrix product."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cmgan_jax.benchmarking.clock import Sample, alternate
from cmgan_jax.config import DTYPES
from cmgan_jax.precision import PRODUCTS

COPIED = {"cpu": 2**28}
"""Bytes of the array that is copied, far more than caches hold; elsewhere `COPIED_DEFAULT`."""
COPIED_DEFAULT = 2**29
SIDE = {"cpu": 2048}
"""Rows and columns of the matrices; elsewhere `SIDE_DEFAULT`."""
SIDE_DEFAULT = 8192


@dataclass(frozen=True)
class Ceilings:
    """The best of one device.

    Attributes:
        bytes_per_second: read and written by a copy, both counted.
        macs_per_second: of a square matrix product, by precision.
    """

    bytes_per_second: float
    macs_per_second: dict[str, float]


def sampled(program: Callable[[], Any]) -> Sample:
    """A sample of a JAX program: calls follow one another, the last result is waited for."""

    def sample(runs: int) -> float:
        began = time.perf_counter()
        result = None
        for _ in range(runs):
            result = program()
        jax.block_until_ready(result)
        return (time.perf_counter() - began) / runs

    return sample


def _copy(x: Array) -> Array:
    # A sum with 1 and not the array itself, which XLA would give back without moving anything.
    return x + 1


def measure_ceilings(device: Any, precisions: tuple[str, ...], repeats: int = 5) -> Ceilings:
    """Measure a device; the fastest sample counts.

    Args:
        device: of JAX.
        precisions: `fp32`, `tf32`, `bf16`.
        repeats: samples of each.
    """
    size, side = COPIED.get(device.platform, COPIED_DEFAULT), SIDE.get(device.platform, SIDE_DEFAULT)
    copied = jax.device_put(jnp.zeros(size // 4, jnp.float32), device)
    cases = {"copy": sampled(partial(jax.jit(_copy), copied))}
    for precision in precisions:
        matrix = jax.device_put(jnp.ones((side, side), DTYPES[precision]), device)
        product = jax.jit(partial(jnp.matmul, precision=PRODUCTS[precision]))
        cases[precision] = sampled(partial(product, matrix, matrix))
    best = {name: min(timing.samples) for name, timing in alternate(cases, repeats).items()}
    return Ceilings(2 * size / best.pop("copy"), {name: side**3 / seconds for name, seconds in best.items()})
