"""Choice of buckets: the few shapes that an enhancer compiles programs for, to which signals are padded."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from cmgan_jax.inference.windows import Layout

Bucket = tuple[int, int]
"""(B, S): shape for up to B signals of up to S samples each."""

SHAPES = 4
"""Maximum number of buckets of an enhancer."""
PROGRAM_SECONDS = 4.0
"""Seconds of audio that are enhanced in the time it takes to compile one program (paper's size on a CPU: 2.5 to 4 s).
"""
STEPS = 8
"""Candidate bucket lengths per octave; few, so that a later run finds some of them in the compilation cache."""


def buckets(windows: Layout, lengths: Sequence[int] = (), sample_rate: int = 16_000) -> tuple[Bucket, ...]:
    """Choose the buckets of an enhancer.

    Args:
        windows: how long signals are cut into windows.
        lengths: expected lengths of signals in samples, if known. Padding wastes compute, so buckets are fitted to
            these lengths as far as that saves more time than compiling their programs takes.
        sample_rate: in Hz.

    Returns:
        Buckets in ascending order of B, then of S, which together fit any signal. Without lengths, they are parts of a
        window, a window, the longest whole signal, and a batch of windows.
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
    """Choose up to `count` lengths of the grid that minimise the cost of enhancement and of compiling new programs."""
    grid = _grid(windows)
    # Signals that are rounded up to the same length of the grid use the same bucket.
    steps, signals = np.unique(grid[np.searchsorted(grid, lengths)], return_counts=True)
    standing = [samples for batch, samples in needed if batch == 1]
    candidates = sorted((set(steps.tolist()) | known) - set(standing))

    def cost(chosen: tuple[int, ...]) -> float:
        sizes = np.asarray(sorted([*chosen, *standing]))
        used = sizes[np.searchsorted(sizes, steps)]
        return float(used @ signals) + program * len(set(used.tolist()) - known)

    return min((chosen for n in range(count + 1) for chosen in combinations(candidates, n)), key=cost)


def _grid(windows: Layout) -> np.ndarray:
    """Candidate lengths: multiples of the hop, `STEPS` per octave, up to the longest whole signal."""
    hops = windows.whole // windows.hop
    octaves = np.arange(int(STEPS * np.log2(hops)) + 1) / STEPS
    return np.unique([*np.ceil(2**octaves).astype(int) * windows.hop, windows.whole])
