"""The few shapes that an enhancer compiles programs for: the buckets that signals of any length are put into."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from cmgan_jax.inference.windows import Layout

Bucket = tuple[int, int]
"""(B, S): so many signals at once, of up to so many samples."""

SHAPES = 4
"""Rooms of an enhancer, at most."""
PROGRAM_SECONDS = 4.0
"""Audio that is enhanced in the time that another program takes to compile (the paper's size on a CPU: 2.5 to 4 s)."""
STEPS = 8
"""Bucket lengths in an octave: few, so that another start of the program finds some of them compiled already."""


def buckets(windows: Layout, lengths: Sequence[int] = (), sample_rate: int = 16_000) -> tuple[Bucket, ...]:
    """The buckets that serve.

    Args:
        windows: how long signals are cut.
        lengths: in samples, of the signals to come, where they are known. Padding up to the bucket length wastes
            compute, so buckets are chosen to fit, as far as that saves more than their programs take to compile.
        sample_rate: samples per second.

    Returns:
        Ascending in B, then in S; they hold any signal. Without lengths: parts of a window, a window, the whole, and a
        batch of windows.
    """
    together = {(windows.batch, windows.length)} if windows.batch > 1 else set()
    alone = {(1, windows.length), (1, windows.whole)}
    parts = [(1, -(-windows.length // (2 * n * windows.hop)) * windows.hop) for n in (1, 2)]
    usual = together | alone | set(parts[: SHAPES - len(together | alone)])
    single = [length for length in lengths if length <= windows.whole]
    if not single:
        return tuple(sorted(usual))
    needed = together | (alone if len(single) < len(lengths) else {(1, windows.whole)})
    known = {samples for batch, samples in usual if batch == 1}
    fitting = _fitting(single, needed, known, SHAPES - len(needed), windows, PROGRAM_SECONDS * sample_rate)
    return tuple(sorted(needed | {(1, samples) for samples in fitting}))


def _fitting(
    lengths: list[int], needed: set[Bucket], known: set[int], count: int, windows: Layout, program: float
) -> tuple[int, ...]:
    """Up to `count` lengths of the grid that cost least: samples computed, and programs that are not known yet."""
    grid = _grid(windows)
    # Signals on the same step of the grid go to the same bucket.
    steps, signals = np.unique(grid[np.searchsorted(grid, lengths)], return_counts=True)
    standing = [samples for batch, samples in needed if batch == 1]
    candidates = sorted((set(steps.tolist()) | known) - set(standing))

    def cost(chosen: tuple[int, ...]) -> float:
        sizes = np.asarray(sorted([*chosen, *standing]))
        used = sizes[np.searchsorted(sizes, steps)]
        return float(used @ signals) + program * len(set(used.tolist()) - known)

    return min((chosen for n in range(count + 1) for chosen in combinations(candidates, n)), key=cost)


def _grid(windows: Layout) -> np.ndarray:
    """Whole hops, `STEPS` in an octave, the last one the whole."""
    hops = windows.whole // windows.hop
    octaves = np.arange(int(STEPS * np.log2(hops)) + 1) / STEPS
    return np.unique([*np.ceil(2**octaves).astype(int) * windows.hop, windows.whole])
