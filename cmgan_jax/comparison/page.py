"""A comparison as one page: conclusion, table, and curves of every variant, grouped by what made scores fail."""

from collections.abc import Sequence
from html import escape

import numpy as np

from cmgan_jax.comparison import tables
from cmgan_jax.comparison.conclusion import Conclusion, by_chance
from cmgan_jax.comparison.likeness import changes_in_words, unequal
from cmgan_jax.comparison.outcome import FinishedRun
from cmgan_jax.report import webpage
from cmgan_jax.report.charts import Axis, Series, line_chart
from cmgan_jax.training.identity import fields_of

CURVES = {
    "score": ("Validation {metric}", "{unit}", "whole held-out files; dashed: as they are, noisy"),
    "validation.loss": ("Validation loss", "", "without the adversarial term, on fixed crops"),
    "train.discriminator_update": ("Discriminator updates made", "share", "of the epoch's steps"),
    "train.discriminator_loss": (
        "Discriminator loss",
        "",
        "0 where its update is skipped, as the published code logs it",
    ),
    "train.rank_correlation": ("Discriminator's rank correlation", "", "with true scores, over a window of valid ones"),
    "train.window_error": ("Discriminator's error", "target", "mean absolute, against true scores mapped to 0 to 1"),
    "train.level_db": ("Output level", "dB", "of training crops, against clean"),
}
"""Title, unit and explanation of each curve by epoch."""


def build(runs: Sequence[FinishedRun], findings: Sequence[Conclusion]) -> str:
    """Build the page; see `webpage.document`."""
    apart = [("warn", f"Not alike: {line}") for line in unequal(runs)]
    notices = webpage.notices([*apart, *((_tone(of), of.text) for of in findings)])
    reference = findings[0].reference if findings else ""
    changed = "".join(f'<p class="fine">{escape(line)}</p>' for line in changes_in_words(runs, reference))
    parts = [
        webpage.section("Conclusion", notices + f'<p class="fine">{by_chance(findings)}</p>'),
        webpage.section("Side by side", _table(runs) + f'<p class="fine">{escape(tables.counted(runs))}</p>{changed}'),
    ]
    for title, group in _groups(runs).items():
        parts.append(webpage.section(title, webpage.chart_grid(_curves(group))))
    variants, seeds = ({getattr(run, name) for run in runs} for name in ("variant", "seed"))
    return webpage.document(
        "Comparison of ways to train",
        f"{len(variants)} variants, {len(seeds)} seeds; lines are means over seeds, bands their lowest and highest",
        "".join(parts),
    )


def _tone(finding: Conclusion) -> str:
    return (
        "bad"
        if finding.collapses or finding.failed
        else "warn"
        if finding.unscored
        else "good"
        if finding.variant == finding.reference
        else ""
    )


def _table(runs: Sequence[FinishedRun]) -> str:
    return webpage.table(["variant", *tables.headings(runs)], tables.rows(runs))


def _groups(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Group runs by the failures injected into them."""
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        samples, batches = _made_to_fail(run)
        made = [f"{share:.0%} of {what}" for share, what in ((samples, "scores"), (batches, "batches")) if share]
        groups.setdefault(f"Made to fail: {' and '.join(made)}" if made else "No score made to fail", []).append(run)
    return dict(sorted(groups.items(), key=lambda item: (not item[0].startswith("No"), item[0])))


def _made_to_fail(run: FinishedRun) -> tuple[float, float]:
    """Return the injected failure shares of scores and of batches; the environment may add to the config's."""
    if shares := run.about.get("injected_failures"):
        return shares["samples"], shares["batches"]
    fields = fields_of(run.config)
    return fields["targets.inject_failures"], fields["targets.inject_batch_failures"]


def _curves(runs: Sequence[FinishedRun]) -> list[str]:
    figures, metric = [], tables.compared(runs)
    for path, (title, unit, about) in CURVES.items():
        series = [mean_curve(name, [run for run in runs if run.variant == name], path) for name in _names(runs)]
        if path == "score":
            series.append(_noisy(runs))
        title, unit = (text.format(metric=metric.label, unit=metric.axis) for text in (title, unit))
        figures.append(line_chart(title, series, Axis("epoch", whole=True), Axis(unit), about))
    return figures


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    return list(dict.fromkeys(run.variant for run in runs))


def mean_curve(name: str, runs: Sequence[FinishedRun], path: str) -> Series:
    """Mean over seeds of one column by epoch, with the range of seeds as its band."""
    columns = [run.score if path == "score" else run.column(path) for run in runs]
    stacked = np.full((len(columns), max(map(len, columns))), np.nan)
    for row, column in zip(stacked, columns, strict=True):
        row[: len(column)] = column
    there = np.isfinite(stacked)
    counts = there.sum(axis=0)
    mean = np.where(counts > 0, np.where(there, stacked, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)
    low, high = (
        np.where(counts > 0, of, np.nan)
        for of in (np.where(there, stacked, np.inf).min(axis=0), np.where(there, stacked, -np.inf).max(axis=0))
    )
    return Series(name, 1.0 + np.arange(stacked.shape[1]), mean, band=(low, high), dots=True)


def _noisy(runs: Sequence[FinishedRun]) -> Series:
    run = max(runs, key=lambda run: len(run.epochs))
    longest = run.column(f"noisy.{run.score_name}")
    return Series("noisy", 1.0 + np.arange(len(longest)), longest, dashed=True)
