"""Times that may be compared: taken in turns, A B A B, so that what disturbs the machine disturbs all alike."""

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
"""Runs the work so many times, waits for the end of it, and gives the seconds of one."""

SHORTEST = 0.5
"""Seconds that a sample should last, for clocks, dispatch and a last step, which looks at no next one, to be small."""
MOST = 50
"""Runs of one sample at most."""


class Gone(UserError):
    """What a case needs has ended: it is left out, and the others go on."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one run, sample by sample, in the order taken."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.samples)


def alternate(cases: Mapping[Name, Sample], repeats: int) -> dict[Name, Timing]:
    """Time all cases in turns.

    Each is run once to warm up and once to choose how many runs make a sample.

    Args:
        cases: by name.
        repeats: samples of each, at least 1.

    Returns:
        Their timings, by name, but for cases that are `Gone`.
    """
    runs = {}
    for name, sample in cases.items():
        with suppress(Gone):
            sample(1)
            runs[name] = min(max(math.ceil(SHORTEST / max(sample(1), 1e-9)), 1), MOST)
    return in_turns({name: partial(cases[name], count) for name, count in runs.items()}, repeats)


def in_turns(cases: Mapping[Name, Callable[[], float]], repeats: int) -> dict[Name, Timing]:
    """Take so many seconds of each case, one case after the other in every round; nothing is warmed up.

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
    """How many times faster ours is: the median of the ratios of samples taken side by side."""
    return statistics.median(b / a for a, b in zip(ours.samples, theirs.samples, strict=True))
