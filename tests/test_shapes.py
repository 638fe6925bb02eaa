"""Shapes are compared with their description, and what differs is named."""

import pytest

from cmgan_jax.shapes import check_shape


def test_letters_are_bound_to_sizes() -> None:
    assert check_shape("x", (2, 7, 201), ("B", "T", 201)) == {"B": 2, "T": 7}
    assert check_shape("x", (3, 3), "NN") == {"N": 3}
    assert check_shape("scalar", (), "") == {}


@pytest.mark.parametrize(
    ("shape", "expected", "words"),
    [
        ((2, 7), "BTF", r"map has shape \[2, 7\], expected \[B, T, F\]"),
        ((2, 7, 4), ("B", "T", 3), r"map has shape \[2, 7, 4\], expected \[B, T, 3\]"),
        ((3, 4), "NN", r"map has shape \[3, 4\], expected \[N, N\]"),
    ],
)
def test_what_differs_is_named(shape: tuple[int, ...], expected: tuple[int | str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_shape("map", shape, expected)
