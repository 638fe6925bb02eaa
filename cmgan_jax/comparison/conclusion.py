"""Conclusions by stated rules: the same numbers always give the same sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cmgan_jax.comparison.outcome import Interval, Run, difference, measures

REFERENCE = "recommended"


@dataclass(frozen=True)
class Rules:
    """When a difference is one."""

    fall: float = 0.2
    """A seed collapsed: its last three epochs' mean PESQ lies more than this (MOS) below its best epoch."""
    seeds: float = 2 / 3
    """A variant collapses: at least this share of its seeds did."""


@dataclass(frozen=True)
class Finding:
    """What the runs say of one variant.

    Attributes:
        variant: its name.
        reference: what it is compared with.
        collapsed: seeds that collapsed.
        seeds: seeds that were trained to their end.
        collapses: whether the rule calls it a collapse.
        difference: of its last PESQ from the reference's, in pairs.
        text: all this in a sentence.
    """

    variant: str
    reference: str
    collapsed: int
    seeds: int
    collapses: bool
    difference: Interval
    text: str


def conclude(runs: Sequence[Run], rules: Rules | None = None, reference: str = REFERENCE) -> list[Finding]:
    """A finding for every variant, in the order of the runs; only runs trained to their end count.

    Args:
        runs: of all variants.
        rules: thresholds.
        reference: the variant that the others are compared with.
    """
    rules = rules or Rules()
    complete = [run for run in runs if run.complete]
    return [_finding(name, complete, rules, reference) for name in dict.fromkeys(run.variant for run in complete)]


def better(of: Interval) -> int:
    """1 or -1 if the interval of a difference lies above or below zero, 0 if the seeds do not tell."""
    if of.low is None or of.high is None:
        return 0
    return int(of.low > 0) - int(of.high < 0)


def by_chance(findings: Sequence[Finding]) -> str:
    """How many differences are to be expected where there are none: 5 % of the intervals lie beside zero."""
    compared = sum(of.difference.low is not None and of.variant != of.reference for of in findings)
    differing = sum(better(of.difference) != 0 for of in findings)
    return f"{compared} differences at 95 %: {0.05 * compared:.1f} would be found by chance alone; found: {differing}"


def _finding(name: str, runs: Sequence[Run], rules: Rules, reference: str) -> Finding:
    own = [run for run in runs if run.variant == name]
    falls = [measures(run)["fall"] for run in own]
    collapsed = sum(fall > rules.fall for fall in falls)
    collapses = collapsed >= rules.seeds * len(own)
    of = difference(runs, name, reference)
    highest = max((fall for fall in falls if math.isfinite(fall)), default=math.nan)
    state = (
        f"{name} {'collapses' if collapses else 'does not collapse'}: in {collapsed} of {len(own)} seeds the last "
        f"epochs lie more than {rules.fall:g} below the best (largest fall {highest:.2f})"
    )
    return Finding(name, reference, collapsed, len(own), collapses, of, f"{state}; {_compared(name, reference, of)}.")


def _compared(name: str, reference: str, of: Interval) -> str:
    if name == reference:
        return "the others are compared with it"
    if of.mean is None:
        return f"no seed in common with {reference}"
    gap = f"PESQ {of.mean:+.3f}" + (f" [{of.low:+.3f}, {of.high:+.3f}]" if of.low is not None else "")
    words = {1: "better than", -1: "worse than", 0: "not told apart from"}[better(of)]
    return f"{words} {reference} ({gap}, {of.n} seed{'' if of.n == 1 else 's'} in pairs)"
