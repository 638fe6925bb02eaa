"""Rooms: they hold anything, are few, and fit what is known to come."""

import numpy as np
import pytest

from cmgan_jax.config import SpectralConfig
from cmgan_jax.inference.buckets import PROGRAM_SECONDS, Bucket, buckets
from cmgan_jax.inference.enhance import WindowConfig, layout
from cmgan_jax.inference.windows import Layout

RATE = 16_000
WHOLE = layout(WindowConfig(batch=1), SpectralConfig())
BATCHED = layout(WindowConfig(batch=8), SpectralConfig())
USUAL = ((1, 2 * RATE), (1, 4 * RATE), (1, 8 * RATE), (1, 20 * RATE))


def samples(seconds: np.ndarray) -> list[int]:
    return np.round(RATE * seconds).astype(int).tolist()


def computed(found: tuple[Bucket, ...], lengths: list[int]) -> float:
    """Samples that buckets of one signal compute, as a multiple of those of the signals."""
    sizes = [size for batch, size in found if batch == 1]
    return sum(min(size for size in sizes if size >= length) for length in lengths) / sum(lengths)


def test_unknown_lengths_get_the_usual_buckets() -> None:
    assert buckets(WHOLE) == USUAL
    assert buckets(BATCHED) == ((1, 4 * RATE), (1, 8 * RATE), (1, 20 * RATE), (8, 8 * RATE))


@pytest.mark.parametrize("windows", [WHOLE, BATCHED])
@pytest.mark.parametrize("longest", [5.0, 19.9, 60.0])
def test_buckets_are_few_and_hold_every_signal_and_every_window(windows: Layout, longest: float) -> None:
    lengths = samples(np.random.default_rng(0).uniform(0.1, longest, 200))
    found = buckets(windows, lengths)
    assert len(found) <= 4
    assert max(size for batch, size in found if batch == 1) == windows.whole
    assert any(batch >= windows.batch and size >= windows.length for batch, size in found)


def test_many_files_get_buckets_that_fit() -> None:
    """2 to 6 s evenly: the usual buckets compute 1.5 times as much (half take 4 s, half 8 s, and 4 s are needed)."""
    lengths = samples(np.linspace(2, 6, 400))
    assert computed(USUAL, lengths) == pytest.approx(1.5, abs=0.02)
    # Three buckets at equal distances waste a sixth of 4 s on average; the grid adds at most an eighth of an octave.
    assert computed(buckets(WHOLE, lengths), lengths) < 1 + 1 / 6 + 0.09


def test_files_of_one_length_get_a_room_of_it() -> None:
    lengths = [round(5.5 * RATE)] * 40
    assert computed(buckets(WHOLE, lengths), lengths) < 2 ** (1 / 8)


@pytest.mark.parametrize(("files", "worth"), [(1, False), (3, True)])
def test_a_program_more_must_save_more_than_it_costs(files: int, worth: bool) -> None:
    """Of 5 s in a bucket of 8 s, 3 s are computed for nothing; less is left by a fitting one."""
    saved = files * (8 - 5 * 2 ** (1 / 8))
    assert (saved > PROGRAM_SECONDS) == worth
    found = buckets(WHOLE, [5 * RATE] * files)
    assert any(5 * RATE <= size < 8 * RATE for _, size in found) == worth


def test_lengths_of_an_earlier_start_share_its_programs() -> None:
    """Lengths that differ by little lead to the same buckets."""
    one = buckets(WHOLE, samples(np.full(50, 3.1)))
    other = buckets(WHOLE, samples(np.full(60, 3.12)))
    assert one == other
