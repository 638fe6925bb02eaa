"""Comparable timings: cases take turns (A B A B), so that disturbances of the machine affect all of them alike."""

import math
import statistics
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from cmgan_jax.errors import UserError

Name = TypeVar("Name")

Sample = Callable[[int], float]
"""A function that runs the work a given number of times, waits until it is done, and returns seconds per run."""

SHORTEST = 0.5
"""Minimum seconds of a sample, so that clock, dispatch and the last step, which has no next one to look at, hardly
count."""
MOST = 50
"""Maximum number of runs in a sample."""


class Gone(UserError):
    """Something that a case needs has terminated: the case is left out, and the others continue."""


@dataclass(frozen=True)
class Timing:
    """Seconds per run of each sample, in the order taken."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds per run."""
        return statistics.median(self.samples)


def alternate(cases: Mapping[Name, Sample], repeats: int) -> dict[Name, Timing]:
    """Time all cases, taking turns.

    Each case is run once to warm up and once to choose the number of runs in a sample.

    Args:
        cases: sampling functions by name.
        repeats: number of samples of each case, at least 1.

    Returns:
        Timings by name, without the cases that are `Gone`.
    """
    runs = {}
    for name, sample in cases.items():
        with suppress(Gone):
            sample(1)
            runs[name] = min(max(math.ceil(SHORTEST / max(sample(1), 1e-9)), 1), MOST)
    return in_turns({name: partial(cases[name], count) for name, count in runs.items()}, repeats)


def in_turns(cases: Mapping[Name, Callable[[], float]], repeats: int) -> dict[Name, Timing]:
    """Time each case `repeats` times, all cases one after another in each round, without warm-up.

    Cases that are `Gone` are left out.
    """
    taken: dict[Name, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name in tuple(taken):
            try:
                taken[name].append(cases[name]())
            except Gone:
                del taken[name]
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}


def ratio(ours: Timing, theirs: Timing) -> float:
    """Return how many times faster ours is: the median of the ratios of samples taken side by side."""
    return statistics.median(b / a for a, b in zip(ours.samples, theirs.samples, strict=True))
