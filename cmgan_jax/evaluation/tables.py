"""An evaluation as tables for the terminal, as JSON and as CSV."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cmgan_jax.errors import printable
from cmgan_jax.evaluation import published
from cmgan_jax.evaluation.evaluation import ENHANCED, NOISY, Evaluation, input_snr
from cmgan_jax.evaluation.evaluation import Group as Files
from cmgan_jax.evaluation.scores import LOWER_IS_BETTER, METRICS, NARROW
from cmgan_jax.evaluation.summary import Statistic, Summary, to_json

PLAIN_WIDTH = 160
"""Columns of a table that is piped, in which nothing is wrapped."""
MAIN = ("pesq", "csig", "cbak", "covl", "ssnr", "stoi", "si_sdr")
"""Measures in the tables of groups; JSON has the rest."""

_NAMES = 5  # maximum number of files named in one note
_NOTES = 20  # maximum number of lines of notes


@dataclass(frozen=True)
class Metric:
    """The presentation of a metric.

    Attributes:
        label: its name.
        unit: unit of its numbers; empty for scores.
        digits: decimals.
        about: what it measures, and its range.
    """

    label: str
    unit: str
    digits: int
    about: str


_OPINION = "predicted opinion of the {}, 1 to 5 (Hu and Loizou 2008)"
LABELS = {
    "pesq": Metric("PESQ", "", 3, "wide-band PESQ, opinion of the quality, 1.04 to 4.64 (ITU-T P.862.2)"),
    NARROW: Metric("PESQ nb", "", 3, "narrow-band PESQ, 1.02 to 4.55 (ITU-T P.862.1)"),
    "csig": Metric("CSIG", "", 3, _OPINION.format("speech's distortion")),
    "cbak": Metric("CBAK", "", 3, _OPINION.format("background")),
    "covl": Metric("COVL", "", 3, _OPINION.format("overall quality")),
    "ssnr": Metric("SSNR", "dB", 2, "segmental signal-to-noise ratio, −10 to 35 dB"),
    "stoi": Metric("STOI", "", 3, "short-time objective intelligibility, up to 1 (Taal et al. 2011)"),
    "estoi": Metric("ESTOI", "", 3, "extended STOI, up to 1 (Jensen and Taal 2016)"),
    "si_sdr": Metric("SI-SDR", "dB", 2, "scale-invariant signal-to-distortion ratio (Le Roux et al. 2019)"),
    "llr": Metric("LLR", "", 3, "log-likelihood ratio of spectral envelopes, 0 or more, lower is better"),
    "wss": Metric("WSS", "", 2, "weighted spectral slope distance, 0 or more, lower is better"),
}


FIELDS = ("name", "reasons", "notes", "speaker", "input_snr", *METRICS, NARROW)
"""Fields of a file's object in JSON besides the systems, which therefore cannot have these names."""


def scale_name(published_scale: bool) -> str:
    """Say how CSIG, CBAK, COVL and WSS were computed."""
    if published_scale:
        return "published scale: CSIG, CBAK, COVL and WSS on audio in [-1, 1], as the published evaluation has them"
    return "16-bit scale, as in the MATLAB reference"


def number(metric: str, value: float | None, sign: bool = False) -> str:
    """Format a value of a metric, with a dash if it is missing."""
    return "–" if value is None else f"{value:{'+' if sign else ''}.{LABELS[metric].digits}f}"


def show(evaluation: Evaluation, console: Console, *, published_scale: bool, detail: bool) -> None:
    """Print an evaluation: missing scores and notes, all files, groups, and published results if comparable.

    Args:
        evaluation: the evaluation to print.
        console: the output; tables are drawn on a terminal only.
        published_scale: whether the published scale was used.
        detail: also print the whole table for each group.
    """
    said = (*missing_lines(evaluation), *note_lines(evaluation))
    pieces: list[RenderableType] = [Text(line, style="yellow") for line in said]
    pieces.append(_table(evaluation.whole, evaluation, console))
    for kind, title in (("input_snr", "by measured input SNR"), ("speaker", "by speaker")):
        groups = [group for group in evaluation.groups if group.kind == kind]
        if groups:
            pieces.append(_group_table(title, groups, evaluation, console))
        if detail:
            pieces += [_table(group, evaluation, console) for group in groups]
    if published.is_voicebank_test(evaluation):
        pieces.append(_literature(evaluation, console))
    pieces.append(
        Text(f"mean ± standard deviation [95 % bootstrap interval of the mean]; {scale_name(published_scale)}")
    )
    pieces.append(Text("; ".join(counts(evaluation)), style="bold"))
    console.print(Group(*pieces), highlight=False, soft_wrap=not console.is_terminal)


def counts(evaluation: Evaluation) -> list[str]:
    """Return `N scored of M` for each system, without a name if there is only one."""
    summaries = evaluation.whole.summaries
    if len({(s.scored, s.total) for s in summaries.values()}) == 1:
        first = next(iter(summaries.values()))
        return [f"{first.scored} scored of {first.total}"]
    return [f"{name}: {s.scored} scored of {s.total}" for name, s in summaries.items()]


def missing_lines(evaluation: Evaluation) -> list[str]:
    """List the missing scores by system, reason and measures, with all file names."""
    lines = []
    for system, summary in evaluation.whole.summaries.items():
        names: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for gap in summary.missing:
            names[gap.reason, gap.metrics].append(gap.name)
        for (reason, metrics), files in names.items():
            which = "no score" if set(METRICS) <= set(metrics) else f"no {', '.join(LABELS[m].label for m in metrics)}"
            lines.append(f"{system}: {which}: {', '.join(map(printable, files))}: {reason}")
    return lines


def note_lines(evaluation: Evaluation) -> list[str]:
    """List the notes on files by system and note, with the first names; the last line says what is left out."""
    lines = []
    for system, scores in evaluation.scores.items():
        names: dict[str, list[str]] = defaultdict(list)
        for of in scores:
            for note in of.notes:
                names[note].append(printable(of.name))
        for note, files in names.items():
            more = f" and {len(files) - _NAMES} more" if len(files) > _NAMES else ""
            lines.append(f"{system}: {note}: {', '.join(files[:_NAMES])}{more}")
    rest = len(lines) - _NOTES
    return lines if rest <= 0 else [*lines[:_NOTES], f"and {rest} other notes: --json has all"]


def document(evaluation: Evaluation, *, published_scale: bool, about: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an evaluation to plain containers for JSON; missing numbers are null, with the reasons beside them.

    Args:
        evaluation: the evaluation.
        published_scale: whether the published scale was used.
        about: what was compared, put at the top.

    Returns:
        `files` and `summary` are for the enhanced files; those of `noisy` and other systems are in `systems` and, file
        by file, under the system's name. `groups` has the summaries of each group of files.
    """
    content = to_json(
        evaluation.scores[ENHANCED], evaluation.whole.summaries[ENHANCED], published_scale=published_scale
    )
    others = [system for system in evaluation.systems if system != ENHANCED]
    rows: list[dict[str, Any]] = content["files"]  # type: ignore[assignment]
    for i, (case, row) in enumerate(zip(evaluation.cases, rows, strict=True)):
        row |= {"speaker": case.speaker, "input_snr": _snr(evaluation, i)}
        for system in others:
            scores = evaluation.scores[system][i]
            row[system] = scores.values | {"reasons": scores.reasons, "notes": list(scores.notes)}
    return {
        **about,
        **content,
        "gain": _statistics(evaluation.whole.gain),
        "systems": {
            system: {
                "summary": _statistics(summary),
                "scored": summary.scored,
                "total": summary.total,
                "missing": [asdict(gap) for gap in summary.missing],
            }
            for system, summary in evaluation.whole.summaries.items()
        },
        "groups": [
            {
                "kind": group.kind,
                "label": group.label,
                "files": next(iter(group.summaries.values())).total,
                "summaries": {system: _statistics(summary) for system, summary in group.summaries.items()},
                "gain": _statistics(group.gain),
            }
            for group in evaluation.groups
        ],
        "voicebank_test_set": published.is_voicebank_test(evaluation),
    }


def to_csv(evaluation: Evaluation) -> str:
    """Make a CSV line for each file: scores of the enhanced file under plain names, those of others with a prefix."""
    metrics = _measured(evaluation.whole)
    others = [system for system in evaluation.systems if system != ENHANCED]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [*metrics, *(f"{system}_{metric}" for system in others for metric in metrics)]
    writer.writerow(["name", *columns, "speaker", "input_snr", "missing"])
    for i, case in enumerate(evaluation.cases):
        scores = [evaluation.scores[system][i] for system in (ENHANCED, *others)]
        values = [of.values.get(metric) for of in scores for metric in metrics]
        reasons = "; ".join(dict.fromkeys(reason for of in scores for reason in of.reasons.values()))
        writer.writerow([case.name, *values, case.speaker, _snr(evaluation, i), reasons])
    return text.getvalue()


def _snr(evaluation: Evaluation, i: int) -> float | None:
    return input_snr(evaluation.scores[NOISY][i]) if NOISY in evaluation.scores else None


def _statistics(summary: Summary | None) -> dict[str, Any] | None:
    return None if summary is None else {metric: asdict(of) for metric, of in summary.statistics.items()}


def _measured(files: Files) -> list[str]:
    return list(next(iter(files.summaries.values())).statistics)


def _new_table(title: str, console: Console) -> Table:
    drawn = console.is_terminal
    return Table(
        title=title,
        title_justify="left",
        title_style="bold" if drawn else "",
        header_style="bold" if drawn else "",
        box=box.SIMPLE_HEAD if drawn else None,
        padding=(0, 1, 0, 0) if drawn else (0, 2, 0, 0),
        pad_edge=False,
    )


def _table(files: Files, evaluation: Evaluation, console: Console) -> Table:
    """Make a table of all metrics of some files: a column for each system, and the gain."""
    first = next(iter(files.summaries.values()))
    table = _new_table(f"{files.label} ({first.total})", console)
    table.add_column("metric", no_wrap=True)
    for system in evaluation.systems:
        table.add_column(system, justify="right")
    if files.gain:
        table.add_column("gain", justify="right")
    for metric in _measured(files):
        # A terminal may have only 80 columns, so an interval gets its own line there.
        gap = "\n" if console.is_terminal else " "
        statistics = [summary.statistics[metric] for summary in files.summaries.values()]
        cells = [_statistic(metric, of, first.total, gap) for of in statistics]
        if files.gain:
            gain = files.gain.statistics.get(metric)
            cells.append(_gain(metric, gain, gap) if gain else Text("–"))
        label = LABELS[metric]
        arrow = " ↓" if metric in LOWER_IS_BETTER else ""
        table.add_row(f"{label.label}{' ' + label.unit if label.unit else ''}{arrow}", *cells)
    return table


def _statistic(metric: str, of: Statistic, total: int, gap: str) -> Text:
    text = number(metric, of.mean)
    if of.std is not None:
        text += f" ± {number(metric, of.std)}{gap}[{number(metric, of.low)}, {number(metric, of.high)}]"
    return Text(text if of.n in (0, total) else f"{text} n={of.n}")


def _gain(metric: str, of: Statistic, gap: str) -> Text:
    text = number(metric, of.mean, sign=True)
    if of.low is None or of.high is None:
        return Text(text)
    # Coloured only if the interval excludes zero gain.
    better, worse = (of.high < 0, of.low > 0) if metric in LOWER_IS_BETTER else (of.low > 0, of.high < 0)
    interval = f"{gap}[{number(metric, of.low, sign=True)}, {number(metric, of.high, sign=True)}]"
    return Text(text + interval, style="green" if better else "red" if worse else "")


def _group_table(title: str, groups: list[Files], evaluation: Evaluation, console: Console) -> Table:
    table = _new_table(f"{title}: means", console)
    table.add_column("group (files)")
    table.add_column("")
    for metric in MAIN:
        # Wrapped if necessary, because a number must not be truncated.
        table.add_column(LABELS[metric].label, justify="right", overflow="fold", min_width=5)
    for group in groups:
        for i, (system, summary) in enumerate(group.summaries.items()):
            table.add_row(
                f"{group.label} ({summary.total})" if i == 0 else "",
                system,
                *(number(m, summary.statistics[m].mean) for m in MAIN),
            )
    return table


def _literature(evaluation: Evaluation, console: Console) -> Table:
    table = _new_table("VoiceBank+DEMAND test set: published figures beside this result", console)
    table.caption = published.NOTE
    table.caption_justify = "left"
    table.add_column("system", no_wrap=True)
    for metric in published.METRICS:
        table.add_column(LABELS[metric].label, justify="right", no_wrap=True)
    for row in published.PUBLISHED:
        cells = ["–" if value is None else f"{value:.2f}" for value in row.values]
        table.add_row(f"{row.name} ({row.year})" if row.year else row.name, *cells)
    means = evaluation.whole.summaries[ENHANCED].statistics
    cells = ["–" if (mean := means[metric].mean) is None else f"{mean:.2f}" for metric in published.METRICS]
    table.add_row("this result", *cells, style="bold" if console.is_terminal else "")
    return table
