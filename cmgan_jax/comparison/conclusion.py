"""Conclusions by fixed rules: the same values always give the same sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cmgan_jax.comparison.outcome import FinishedRun, Interval, difference, measures
from cmgan_jax.metrics.protocol import PESQ, Scale

REFERENCE = "recommended"


@dataclass(frozen=True)
class Rules:
    """Thresholds for a collapse."""

    fall: float = 0.2
    """A seed collapsed if the mean PESQ of its last three epochs is more than this (MOS) below its best epoch. For
    another metric it is the same share of its range."""
    seeds: float = 2 / 3
    """A variant collapses if at least this share of its seeds did."""


@dataclass(frozen=True)
class Conclusion:
    """The conclusion on one variant.

    Attributes:
        variant: its name.
        reference: the variant it is compared with.
        collapsed: number of seeds that collapsed.
        seeds: number of seeds trained to the end.
        failed: seeds that ended early, by an error or because they diverged.
        unscored: seeds trained to the end whose last epochs lack a complete score.
        collapses: whether the variant collapses by the rule.
        difference: its last score minus the reference's, paired by seed; positive if it is higher.
        text: a sentence with all of this.
    """

    variant: str
    reference: str
    collapsed: int
    seeds: int
    failed: int
    unscored: int
    collapses: bool
    difference: Interval
    text: str


def conclude(runs: Sequence[FinishedRun], rules: Rules | None = None, reference: str = REFERENCE) -> list[Conclusion]:
    """Draw a conclusion for every variant, in the order of the runs.

    Measures are taken from runs trained to the end. Seeds without a result are named: those that failed or were
    stopped, and those with an incompletely scored epoch at the end.

    Args:
        runs: runs of all variants.
        rules: thresholds of the conclusions.
        reference: the variant that the others are compared with.
    """
    rules = rules or Rules()
    ended = dict.fromkeys(run.variant for run in runs if run.complete or run.failure)
    return [_finding(name, runs, rules, reference) for name in ended]


def better(of: Interval, metric: Scale = PESQ) -> int:
    """Return 1 or -1 if a difference's interval is on the better or worse side of zero, 0 if it is inconclusive."""
    if of.low is None or of.high is None:
        return 0
    higher = int(of.low > 0) - int(of.high < 0)
    return higher if metric.higher_is_better else -higher


def by_chance(findings: Sequence[Conclusion]) -> str:
    """Say how many differences are expected by chance if there are none: 5 % of the intervals exclude zero."""
    compared = sum(of.difference.low is not None and of.variant != of.reference for of in findings)
    differing = sum(better(of.difference) != 0 for of in findings)
    return f"{compared} differences at 95 %: {0.05 * compared:.1f} would be found by chance alone; found: {differing}"


def _finding(name: str, runs: Sequence[FinishedRun], rules: Rules, reference: str) -> Conclusion:
    own = [run for run in runs if run.variant == name]
    metric = own[0].compared
    least = rules.fall * (metric.span / PESQ.span)
    falls = [measures(run)["fall"] for run in own if run.complete]
    failed = sum(bool(run.failure) for run in own)
    unscored = sum(not math.isfinite(fall) for fall in falls)
    collapsed = sum(fall > least for fall in falls)
    seeds = len(falls) + failed
    collapses = collapsed >= rules.seeds * seeds
    # An unknown result of a seed might have been a fall.
    open_ = not collapses and collapsed + unscored + failed >= rules.seeds * seeds
    known = [fall for fall in falls if math.isfinite(fall)]
    state = (
        f"whether {name} collapses cannot be told"
        if open_
        else f"{name} {'collapses' if collapses else 'does not collapse'}"
    )
    state += f": in {collapsed} of {seeds} seeds the last epochs lie more than {least:.3g} {metric.worse} the best" + (
        f" (largest fall {max(known):.2f})" if known else ""
    )
    of = difference(runs, name, reference)
    parts = [state, _compared(name, reference, of, runs), *(run.lacks for run in own if run.lacks)]
    return Conclusion(name, reference, collapsed, len(falls), failed, unscored, collapses, of, "; ".join(parts) + ".")


def _compared(name: str, reference: str, of: Interval, runs: Sequence[FinishedRun]) -> str:
    if name == reference:
        return "the others are compared with it"
    seeds, others = ({run.seed: run for run in runs if run.variant == variant} for variant in (name, reference))
    both = seeds.keys() & others.keys()
    if not both:
        return f"no seed in common with {reference}"
    # The variant's own failures are listed separately.
    lacking = [f"{reference}'s {others[seed].lacks}" for seed in sorted(both) if others[seed].lacks]
    if of.mean is None:
        return "; ".join([f"not compared with {reference}: no seed of both has a result", *lacking])
    metric = seeds[next(iter(both))].compared
    gap = f"{metric.label} {of.mean:+.3f}" + (f" [{of.low:+.3f}, {of.high:+.3f}]" if of.low is not None else "")
    words = {1: "better than", -1: "worse than", 0: "not told apart from"}[better(of, metric)]
    count = f"{of.n} of {len(both)}" if of.n < len(both) else f"{of.n}"
    return "; ".join([f"{words} {reference} ({gap}, {count} seed{'' if count == '1' else 's'} in pairs)", *lacking])
