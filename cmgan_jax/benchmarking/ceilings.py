"""Measured upper limits of a device: memory bandwidth of a copy, and throughput of a matrix product."""

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
"""Bytes of the copied array, far more than caches hold; other platforms use `COPIED_DEFAULT`."""
COPIED_DEFAULT = 2**29
SIDE = {"cpu": 2048}
"""Rows and columns of the matrices; other platforms use `SIDE_DEFAULT`."""
SIDE_DEFAULT = 8192


@dataclass(frozen=True)
class Ceilings:
    """Upper limits of one device.

    Attributes:
        bytes_per_second: memory traffic of a copy, reads and writes both counted.
        macs_per_second: multiply-adds per second of a square matrix product, by precision.
    """

    bytes_per_second: float
    macs_per_second: dict[str, float]


def sampled(program: Callable[[], Any]) -> Sample:
    """Return a sampling function for a JAX program: calls are dispatched in a row, and the last one is awaited."""

    def sample(runs: int) -> float:
        began = time.perf_counter()
        result = None
        for _ in range(runs):
            result = program()
        jax.block_until_ready(result)
        return (time.perf_counter() - began) / runs

    return sample


def _copy(x: Array) -> Array:
    # Adds 1, because XLA would return the unchanged array without moving anything.
    return x + 1


def measure_ceilings(device: Any, precisions: tuple[str, ...], repeats: int = 5) -> Ceilings:
    """Measure a device's limits, each by its fastest sample.

    Args:
        device: a JAX device.
        precisions: any of `fp32`, `tf32`, `bf16`.
        repeats: number of samples of each figure.
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
