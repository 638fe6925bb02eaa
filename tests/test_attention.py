"""Relative attention against the gathered form of Shaw et al. (2018), written out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.config import GeneratorConfig
from cmgan_jax.models import backends, chunks, relative
from cmgan_jax.models.attention import RelativeAttention, attend
from cmgan_jax.models.layers import row_indices
from cmgan_jax.models.relative import relative_gradients, relative_scores, shift

SEQUENCES, HEADS, POSITIONS, WIDTH = 7, 2, 5, 3
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def test_shift_picks_the_distance_of_each_pair() -> None:
    scores = normal(2, 3, POSITIONS, 2 * POSITIONS)
    found = np.asarray(shift(jnp.asarray(scores)))
    for i in range(POSITIONS):
        for j in range(POSITIONS):
            np.testing.assert_array_equal(found[..., i, j], scores[..., i, POSITIONS - 1 - i + j])


def gathered(query: Any, key: Any, value: Any, table: Any, valid: Any, limit: int) -> Array:
    """One embedding for each pair (i, j), gathered: table row clamp(i - j) + limit."""
    positions, width = query.shape[-2:]
    distance = np.subtract.outer(np.arange(positions), np.arange(positions))
    pairs = table[np.clip(distance, -limit, limit) + limit]
    scores = (jnp.einsum("shik,shjk->shij", query, key) + jnp.einsum("shik,ijk->shij", query, pairs)) / np.sqrt(width)
    if valid is not None:
        scores = jnp.where(valid[:, None, None, :], scores, -1e30)
    return jnp.einsum("shij,shjk->shik", jax.nn.softmax(scores, axis=-1), value)


Case = tuple[tuple[np.ndarray, ...], np.ndarray, Array | None, Any]


@pytest.fixture(scope="module")
def cases() -> dict[bool, Case]:
    """Masked or not: operands, cotangent, mask, and what the gathered form gives: value and four gradients."""
    made: dict[bool, Case] = {}
    for masked in (False, True):
        operands = (*(normal(SEQUENCES, HEADS, POSITIONS, WIDTH) for _ in range(3)), normal(2 * POSITIONS - 1, WIDTH))
        cotangent = normal(SEQUENCES, HEADS, POSITIONS, WIDTH)
        valid = jnp.arange(POSITIONS) < (jnp.arange(SEQUENCES) % POSITIONS + 1)[:, None] if masked else None
        literal = partial(gathered, valid=valid, limit=POSITIONS - 1)
        made[masked] = operands, cotangent, valid, with_gradients(literal, operands, cotangent)
    return made


def with_gradients(function: Callable[..., Array], operands: tuple[np.ndarray, ...], cotangent: np.ndarray) -> Any:
    def both(*operands: Array) -> Any:
        out, pull = jax.vjp(function, *operands)
        return out, *pull(cotangent)

    return jax.jit(both)(*operands)


# Of 7 sequences and 2 heads with 5 positions: all rows at a time; 2, so that the last ones lack one; 1.
@pytest.mark.parametrize("scores", [1_000_000, 140, 1])
@pytest.mark.parametrize("form", ["by distance", "by distance, in blocks of 2 rows", "by pair"])
@pytest.mark.parametrize("masked", [False, True])
def test_attend_equals_the_gathered_form(
    cases: dict[bool, Case], masked: bool, form: str, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and the gradients of all four operands: in the form for a CPU and in that for a GPU, some rows at once."""
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", {jax.default_backend(): scores})
    monkeypatch.setattr(backends, "scores_by_distance", lambda: form != "by pair")
    if "blocks" in form:
        monkeypatch.setattr(relative, "BLOCK", 2)
    operands, cotangent, valid, expected = cases[masked]
    # `attend` wants the largest distance first, the gathered form's table has it last.
    found = with_gradients(lambda q, k, v, table: attend(q, k, v, table[::-1], valid), operands, cotangent)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_in_bfloat16_both_forms_round_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """By pair, scores are rounded on their way through memory, to 8 bits: half a unit of the last is 2 ** -9."""
    query, distances = jnp.asarray(normal(2, 3, 9, 4), jnp.bfloat16), jnp.asarray(normal(17, 4))
    d_scores = jnp.asarray(normal(2, 3, 9, 9), jnp.bfloat16)
    found = {}
    for name, by_distance in (("distance", True), ("pair", False)):
        monkeypatch.setattr(backends, "scores_by_distance", lambda by_distance=by_distance: by_distance)
        found[name] = relative_scores(query, distances), *relative_gradients(d_scores, query, distances)
    assert all(leaf.dtype == jnp.float32 for leaf in (*found["distance"], *found["pair"]))
    exact, rounded = found["distance"][0], found["pair"][0]
    np.testing.assert_array_equal(rounded, exact.astype(jnp.bfloat16).astype(jnp.float32))
    for one, other in zip(found["pair"][1:], found["distance"][1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_module_clamps_distances_and_orders_heads_and_halves() -> None:
    """Layer norm, key before value in their joint projection, heads as leading parts of the width; clamp at 2 of 5."""
    channels, positions, limit = HEADS * WIDTH, 6, 2
    module = RelativeAttention(GeneratorConfig(channels=channels, heads=HEADS, max_distance=limit, dropout=0.0))
    x = normal(2, positions, channels) * 3 + 1
    numbers = row_indices(len(x), None)

    def apply(module: RelativeAttention, x: Array) -> Array:
        return module(x, numbers, module.distances(positions), False)

    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, method=apply))
    variables = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
    params = variables["params"]
    assert params["positions"].shape == (2 * limit + 1, WIDTH)
    assert "bias" not in params["query"]
    assert "bias" not in params["key_value"]

    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    normed = normed * params["norm"]["scale"] + params["norm"]["bias"]
    joint = normed @ params["key_value"]["kernel"]
    query = normed @ params["query"]["kernel"]

    def heads(part: np.ndarray) -> np.ndarray:
        return np.stack([part[..., h * WIDTH : (h + 1) * WIDTH] for h in range(HEADS)], axis=1)

    out = jax.jit(gathered, static_argnums=(4, 5))(
        heads(query), heads(joint[..., :channels]), heads(joint[..., channels:]), params["positions"], None, limit
    )
    merged = np.concatenate([out[:, h] for h in range(HEADS)], axis=-1)
    expected = merged @ params["output"]["kernel"] + params["output"]["bias"]
    found = jax.jit(lambda v: module.apply(v, x, method=apply))(variables)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
