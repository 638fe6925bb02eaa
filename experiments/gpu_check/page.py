"""The page of a check: what was reached, what was missed, what failed, every figure, and the curves of trainings."""

from typing import Any

import numpy as np

from cmgan_jax.report.charts import Axis, Series, line_chart
from cmgan_jax.report.webpage import chart_grid, document, notices, section, table
from experiments.gpu_check.digests import Figure

NOTHING = "This is a rehearsal at the smallest sizes: its numbers measure nothing."
"""What stands on the page of a rehearsal."""


def page(joined: dict[str, Any]) -> str:
    """One HTML page from the joined record."""
    machine = joined.get("machine", {})
    subtitle = ", ".join(
        filter(
            None,
            [
                machine.get("device", "no device"),
                f"driver {joined['driver']}" if joined.get("driver") else "",
                f"jax {machine['jax']}" if machine else "",
                f"revision {joined.get('revision', {}).get('commit', 'unknown')[:12]}"
                + (" with changes" if joined.get("revision", {}).get("dirty") else ""),
                joined["date"],
            ],
        )
    )
    first = [("warn", NOTHING)] if joined.get("rehearsal") else []
    first += [("bad", f"{name}: {r['why']}") for name, r in joined["parts"].items() if r["state"] == "failed"]
    first += [
        ("", f"{name} was left out: {r['why']}") for name, r in joined["parts"].items() if r["state"] == "left out"
    ]
    body = section("What to know first", notices(first)) if first else ""
    return document("Check on a GPU", subtitle, body + "".join(_part(r) for r in joined["parts"].values()))


def _part(record: dict[str, Any]) -> str:
    digest = record.get("digest", {})
    lines = [("", line) for line in (*record.get("notes", ()), *digest.get("words", ()))]
    lines += [
        ("good" if goal["met"] else "bad", f"{goal['name']}: {goal['found']} (goal: {goal['wanted']})")
        for goal in digest.get("goals", ())
    ]
    content = notices(lines) if lines else ""
    if curves := digest.get("curves"):
        charts = [
            line_chart(
                curve["title"],
                [Series(curve["label"], np.array(curve["x"], float), np.array(curve["y"], float), dots=True)],
                Axis("steps"),
                Axis(curve["label"]),
            )
            for curve in curves
        ]
        content += chart_grid(charts)
    if figures := digest.get("figures"):
        content += table(("figure", "found"), [(figure["name"], Figure(**figure).shown) for figure in figures])
    cases = [[n, c["state"], f"{c.get('seconds', 0):.0f}", c["why"]] for n, c in record["cases"].items()]
    content += table(("command", "state", "seconds", "why"), cases) if cases else ""
    return section(record["title"], content)
