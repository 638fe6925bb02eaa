"""A diagnosis as a self-contained HTML page that works from disk."""

from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np

from cmgan_jax.diagnosis.finding import CODES, Level
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.terminal import cell, columns, finding_line, sentences
from cmgan_jax.report.charts import Axis, Series, line_chart
from cmgan_jax.report.webpage import chart_grid, document, notices, section, table

KINDS: dict[Level, str] = {"collapse": "bad", "fault": "bad", "sign": "warn", "unknown": "warn", "good": "good"}


def build(history: History, content: dict[str, Any]) -> str:
    """Make the page.

    Args:
        history: provides the curves.
        content: the result of `report.document`, which provides everything else.

    Returns:
        HTML.
    """
    source, shown = content["source"], columns(content)
    rows = [[str(row["epoch"]), *(cell(row[key], form) for key, _, form in shown)] for row in content["epochs"]]
    losses = "".join(f"<p>{escape(line)}</p>" for line in sentences(content))
    parts = [
        section(
            "Findings",
            notices((KINDS[CODES[of["code"]].level], f"{of['code']}: {of['text']}") for of in content["findings"]),
        ),
        section("Curves", chart_grid(_charts(history))),
        section("Discriminator losses", losses),
        section("Epochs", table(["epoch", *(heading for _, heading, _ in shown)], rows)) if rows else "",
        _list("Defects of the published code", map(finding_line, content["published_defects"])),
        _list("What this cannot tell", content["cannot_tell"]),
        _list("Read", [*source["names"], *source["notes"]]),
    ]
    return document("Diagnosis of a training", ", ".join(source["names"]), "".join(parts))


def _list(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return section(title, f"<ul>{items}</ul>") if items else ""


def _charts(history: History) -> Iterable[str]:
    """Yield charts of the known columns: by epoch, then by step."""
    at, metric = history.epoch("epoch"), history.metric
    epoch = Axis("epoch", whole=True)

    def of_epochs(title: str, axis: Axis, about: str = "", **named: str) -> str | None:
        series = [
            Series(label.replace("_", " "), at, values, dots=at.size < 60)
            for label, name in named.items()
            # A mean over only some of the held-out files is left out of the curve.
            if np.isfinite(values := history.score if name == "validation.score" else history.epoch(name)).any()
        ]
        return line_chart(title, series, epoch, axis, about) if series else None

    whole = history.step("step") if history.source.kind == "run" else np.arange(1.0, 1 + len(history.step("step")))
    along = Axis("step" if history.source.kind == "run" else "logged step, in order")

    def of_steps(title: str, axis: Axis, about: str = "", **named: str) -> str | None:
        series = [
            Series(label.replace("_", " "), whole, history.step(name))
            for label, name in named.items()
            if np.isfinite(history.step(name)).any()
        ]
        return line_chart(title, series, along, axis, about) if series else None

    drawn = (
        of_epochs(f"Validation {metric.label}", Axis(metric.axis), **{metric.label: "validation.score"}),
        of_epochs("Loss", Axis("loss"), validation="validation.loss", training="train.generator_loss"),
        of_steps(
            "Discriminator loss",
            Axis("loss", log=True),
            "Strokes at the bottom are exactly 0: updates left out.",
            whole="discriminator_loss",
            on_estimates="discriminator_loss_estimate",
            on_clean="discriminator_loss_clean",
        ),
        of_steps("Generator loss", Axis("loss"), loss="generator_loss"),
        of_epochs(
            f"Does the discriminator rank as {metric.label} does?",
            Axis("rank correlation", high=1.0),
            "1: the same order.",
            held_out="validation.rank_correlation",
        ),
        of_steps("Output level against clean", Axis("dB"), level="level_db"),
        of_steps(
            "Updates and scores",
            Axis("share", low=0.0, high=1.0),
            discriminator_updates="discriminator_update",
            scores_valid="valid_share",
        ),
        of_steps("Spread of a batch's targets", Axis("standard deviation", low=0.0), spread="target_spread"),
    )
    return [chart for chart in drawn if chart]
