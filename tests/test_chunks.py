"""Work by chunks against the same work at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.models import chunks
from cmgan_jax.models.chunks import Chunks, kept

ROWS = 7
RNG = np.random.default_rng(0)


def by_chunks(function: Callable[..., Any], operands: tuple[Any, ...], elements: int) -> Any:
    chunks = Chunks.of(len(operands[0]), elements)
    return chunks.join(chunks.map(function, chunks.cut(operands)))


def work(x: Array, factor: Array) -> tuple[Array, Array]:
    return jnp.sin(x * factor[:, None]), jnp.sum(x, axis=1)


# Of 10 elements a row: one row at a time; 3 of 7, so that the last chunk lacks two; all.
@pytest.mark.parametrize("limit", [1, 30, 1000])
def test_chunks_change_neither_values_nor_gradients(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", {"cpu": limit})
    operands = RNG.normal(size=(ROWS, 10)).astype(np.float32), RNG.normal(size=ROWS).astype(np.float32)
    expected, pull_expected = jax.vjp(work, *operands)
    found, pull = jax.vjp(lambda *operands: by_chunks(work, operands, 10), *operands)
    cotangents = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), expected)
    for one, other in zip(
        jax.tree.leaves((found, pull(cotangents))), jax.tree.leaves((expected, pull_expected(cotangents))), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_what_fills_the_last_chunk_does_not_count() -> None:
    x, chunks = RNG.normal(size=(ROWS, 10)).astype(np.float32), Chunks(ROWS, 3, 3)
    assert chunks.counted is not None
    np.testing.assert_array_equal(chunks.counted, [[1, 1, 1], [1, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(chunks.join(chunks.cut(x)), x)
    assert Chunks(6, 2, 3).counted is None


# Most sequences that a device may have at once: fewer than 8, 8 and more, all.
@pytest.mark.parametrize(
    ("most", "expected"), [(2, (51, 2)), (7, (15, 7)), (12, (13, 8)), (24, (5, 24)), (500, (1, 104))]
)
def test_a_gpu_gets_multiples_of_8_and_no_chunk_of_nothing(
    most: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", {"gpu": 10 * most})
    found = Chunks.of(101, 10)
    assert (found.count, found.size) == expected
    assert (found.count - 1) * found.size < 101


def bytes_kept(function: Any, x: np.ndarray) -> int:
    _, pull = jax.vjp(lambda x: by_chunks(function, (x,), 1000), x)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(pull))


def test_operands_alone_are_kept_and_what_is_marked() -> None:
    x = RNG.normal(size=(ROWS, 10)).astype(np.float32)
    assert bytes_kept(lambda x: jnp.exp(jnp.sin(jnp.cos(x))), x) == x.nbytes
    assert bytes_kept(lambda x: jnp.exp(kept(jnp.sin(jnp.cos(x)))), x) == 2 * x.nbytes


def test_memory_of_the_gradient_is_that_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pass holds the products of all 64 rows, 64 · 100 · 100 floats."""
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", {"cpu": 10_000})

    def pairs(x: Array) -> Array:
        return jnp.sum(jnp.sin(x[:, :, None] * x[:, None, :]) ** 2, axis=-1)

    gradient = jax.grad(lambda x: jnp.sum(jnp.square(by_chunks(pairs, (x,), 10_000))))
    memory = jax.jit(gradient).lower(jax.ShapeDtypeStruct((64, 100), jnp.float32)).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 4 * 64 * 100 * 100 / 4
