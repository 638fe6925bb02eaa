"""Windows and their joints, with enhancers whose result is known without a model."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgan_jax.inference.windows import Layout, WindowedStream

LAYOUT = Layout(length=80, edge=10, fade=10, hop=5, batch=2, whole=120)


def identity(pieces: list[np.ndarray], part: bool) -> list[np.ndarray]:
    return [piece.copy() for piece in pieces]


def through(signal: np.ndarray, blocks: Iterable[int], layout: Layout = LAYOUT, run=identity) -> np.ndarray:
    stream, done, start = WindowedStream(run, layout), [], 0
    signal = signal[:, None]
    for size in blocks:
        done.append(stream.push(signal[start : start + size]))
        start += size
        if layout.whole < start <= len(signal):
            assert sum(map(len, done)) >= start - layout.whole, "later than the latency"
    done += [stream.push(signal[start:]), stream.flush()]
    return np.concatenate(done)[:, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 700), st.lists(st.integers(0, 150), max_size=12))
def test_nothing_is_lost_or_doubled(samples: int, blocks: list[int]) -> None:
    # Every sample is its own number, so a shift or a gap would show; cross-fades of equals leave rounding.
    signal = np.arange(samples, dtype=np.float32)
    np.testing.assert_allclose(through(signal, blocks), signal, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(121, 700), st.lists(st.integers(0, 150), max_size=12))
def test_blocks_change_nothing(samples: int, blocks: list[int]) -> None:
    def uneven(pieces: list[np.ndarray], part: bool) -> list[np.ndarray]:
        # A result that depends on the window's content and on the place in it, as the network's does.
        return [piece * np.float32(1 + piece[0] % 7) + np.arange(piece.size, dtype=np.float32) for piece in pieces]

    signal = np.arange(samples, dtype=np.float32)
    np.testing.assert_array_equal(through(signal, blocks, run=uneven), through(signal, [samples], run=uneven))


def test_where_windows_lie_and_what_of_them_is_used() -> None:
    calls: list[tuple[list[float], list[int], bool]] = []

    def mark(pieces: list[np.ndarray], part: bool) -> list[np.ndarray]:
        calls.append(([float(piece[0]) for piece in pieces], [piece.size for piece in pieces], part))
        return [np.full(piece.size, piece[0], np.float32) for piece in pieces]

    # By hand: a step is 80 - 10 - 2 · 10 = 50; windows at 0, 50, 100 end before 183, and the last begins at the first
    # hop from 183 - 80 = 103 on: 105. In twos, as `batch` says.
    done = through(np.arange(183, dtype=np.float32), [183], run=mark)
    assert calls == [([0, 50], [80, 80], True), ([100], [80], True), ([105], [78], True)]
    # Cross-fades lie 20 to 10 samples before a window's end: 60–70, 110–120, 160–170.
    rise = np.arange(1, 11, dtype=np.float32) / 11
    np.testing.assert_array_equal(done[:60], 0)
    np.testing.assert_allclose(done[60:70], 50 * rise, rtol=1e-6)
    np.testing.assert_array_equal(done[70:110], 50)
    np.testing.assert_allclose(done[110:120], 50 + 50 * rise, rtol=1e-6)
    np.testing.assert_array_equal(done[120:160], 100)
    np.testing.assert_allclose(done[160:170], 100 + 5 * rise, rtol=1e-6)
    np.testing.assert_array_equal(done[170:], 105)


def test_a_window_that_ends_with_the_signal_is_enhanced_once() -> None:
    starts = []

    def mark(pieces: list[np.ndarray], part: bool) -> list[np.ndarray]:
        starts.extend(float(piece[0]) for piece in pieces)
        return pieces

    # Windows of 80 every 50 samples: the second ends at 130.
    through(np.arange(130, dtype=np.float32), [130], run=mark)
    assert starts == [0, 50]


def test_channels_share_a_call_and_stay_apart() -> None:
    calls: list[list[float]] = []

    def mark(pieces: list[np.ndarray], part: bool) -> list[np.ndarray]:
        calls.append([float(piece[0]) for piece in pieces])
        return [2 * piece for piece in pieces]

    signal = np.arange(183, dtype=np.float32)[:, None] + np.array([0, 1000], np.float32)
    stream = WindowedStream(mark, LAYOUT, channels=2)
    found = np.concatenate([stream.push(signal[:150]), stream.push(signal[150:]), stream.flush()])
    # The windows of the test above, each with its twin of the other channel: the batch is 2.
    assert calls == [[0, 1000], [50, 1050], [100, 1100], [105, 1105]]
    np.testing.assert_allclose(found, 2 * signal, rtol=1e-6)
    # Longer than a window, but not cut: alone, for no program takes two of them.
    calls.clear()
    stream = WindowedStream(mark, LAYOUT, channels=2)
    assert stream.push(signal[:110]).shape == (0, 2)
    np.testing.assert_array_equal(stream.flush(), 2 * signal[:110])
    assert calls == [[0], [1000]]


@pytest.mark.parametrize(("samples", "parts"), [(120, [False]), (121, [True, True])])
def test_what_is_no_longer_than_whole_is_not_cut(samples: int, parts: list[bool]) -> None:
    seen = []

    def note(pieces: list[np.ndarray], part: bool) -> list[np.ndarray]:
        seen.append((part, [piece.size for piece in pieces]))
        return pieces

    through(np.ones(samples, np.float32), [50, 50], run=note)
    assert [part for part, _ in seen] == parts
    assert parts == [True, True] or seen == [(False, [120])]


def test_memory_does_not_grow() -> None:
    stream = WindowedStream(identity, LAYOUT)
    for _ in range(200):
        stream.push(np.ones((37, 1), np.float32))
    assert sum(block.size for block in stream._held) <= 2 * LAYOUT.length + LAYOUT.whole


def test_layouts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="whole hops of 5"):
        Layout(80, 10, 12, 5, 1, 80)
    with pytest.raises(ValueError, match="whole hops of 5"):
        Layout(80, 35, 10, 5, 1, 80)
    with pytest.raises(ValueError, match="whole up to 75"):
        Layout(80, 10, 10, 5, 1, 75)
