"""A comparison as tables: for a terminal and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cmgan_jax.comparison.conclusion import Conclusion, Rules, by_chance
from cmgan_jax.comparison.likeness import changes, changes_in_words, unequal
from cmgan_jax.comparison.outcome import FinishedRun, Interval, measures, summary
from cmgan_jax.metrics.protocol import PESQ, Scale

COLUMNS = {
    "last": ("{metric}, last 3 epochs", ".3f"),
    "best": ("{metric}, best epoch", ".3f"),
    "fall": ("fall", ".3f"),
    "si_sdr": ("SI-SDR dB", ".2f"),
    "rank": ("D rank correlation", ".2f"),
    "calibration": ("D error", ".3f"),
    "updates": ("D updates", ".0%"),
    "valid": ("scores valid", ".0%"),
    "level": ("level dB", "+.1f"),
}
"""Label and format of each measure, in the order of the table; `headings` inserts the compared metric."""


def terminal(runs: Sequence[FinishedRun], findings: Sequence[Conclusion]) -> RenderableType:
    """Make a table of all variants, with means over seeds and their intervals, and the conclusion."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("variant", no_wrap=True)
    for label in headings(runs):
        table.add_column(label, justify="right")
    for cells in rows(runs):
        table.add_row(*cells)
    sentences = (Text(finding.text) for finding in findings)
    notes = [Text(f"Not alike: {line}", style="yellow") for line in unequal(runs)]
    reference = findings[0].reference if findings else ""
    changed = [Text(line, style="dim") for line in changes_in_words(runs, reference)]
    chance = Text(by_chance(findings), style="dim")
    return Group(table, Text(counted(runs), style="dim"), *changed, *notes, *sentences, chance)


def headings(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the labels of the measures, with the compared metric inserted."""
    metric = compared(runs)
    name = metric.label + (f" {metric.unit}" if metric.unit not in ("", "MOS") else "")
    return [label.format(metric=name) for label, _ in COLUMNS.values()]


def compared(runs: Sequence[FinishedRun]) -> Scale:
    """Return the metric by which the runs are compared."""
    return runs[0].compared if runs else PESQ


def rows(runs: Sequence[FinishedRun]) -> list[list[str]]:
    """Make the table's row of each variant: its name, and a cell for each of `COLUMNS`."""
    seeds = {name: sum(run.variant == name for run in runs) for name in (run.variant for run in runs)}
    return [
        [name, *(cell(of[key], form, seeds[name]) for key, (_, form) in COLUMNS.items())]
        for name, of in summary(runs).items()
    ]


def cell(of: Interval, form: str, seeds: int = 0) -> str:
    """Format a mean, half the width of its interval if there is one, and the number of seeds if some lack it."""
    if of.mean is None:
        return "–"
    half = "" if of.high is None else f" ±{format(of.high - of.mean, form.lstrip('+'))}"
    return format(of.mean, form) + half + (f" ({of.n} of {seeds})" if of.n < seeds else "")


def as_json(runs: Sequence[FinishedRun], findings: Sequence[Conclusion], rules: Rules) -> dict[str, Any]:
    """Collect everything that the tables and plots are made from."""
    return {
        "rules": asdict(rules),
        "compared_metric": compared(runs).to_dict(),
        "findings": [asdict(finding) for finding in findings],
        "by_chance": by_chance(findings),
        "unequal": unequal(runs),
        "changes": changes(runs, findings[0].reference) if findings else {},
        "summary": {name: {key: asdict(value) for key, value in of.items()} for name, of in summary(runs).items()},
        "runs": [
            {
                "variant": run.variant,
                "seed": run.seed,
                "complete": run.complete,
                "failure": run.failure or None,
                "lacks": run.lacks or None,
                "unscored": {str(number): why for number, why in run.unscored.items()},
                "measures": measures(run),
                "target_metric": run.metric.name,
                "score": run.column(f"validation.{run.score_name}").tolist(),
                "pesq": run.column("validation.pesq").tolist(),
                "validation_loss": run.column("validation.loss").tolist(),
            }
            for run in runs
        ],
    }


def counted(runs: Sequence[FinishedRun]) -> str:
    """Explain how the table's values are computed, and what is missing from it."""
    away = [run for run in runs if not run.complete]
    listed = "; ".join(f"{run.variant}: {run.lacks}" for run in away)
    part = f". {len(away)} of {len(runs)} runs are not at their end and have no part in it ({listed})" if away else ""
    return f"mean over seeds ± half the 95 % interval (Student's t){part}"
