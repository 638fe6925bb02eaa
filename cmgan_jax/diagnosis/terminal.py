"""A diagnosis on the terminal: first the findings, then the losses' distribution by epoch, then the limits."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from cmgan_jax.diagnosis.finding import CODES
from cmgan_jax.metrics.protocol import Scale

COLOURS = {"collapse": "bold red", "fault": "red", "sign": "yellow", "unknown": "yellow", "good": "green"}
STANDS = {
    "shown": "shown",
    "compatible": "compatible with",
    "against": "no sign of",
    "unknown": "cannot be told",
    "on": "in this run",
    "off": "not in this run",
}
MOST_EPOCHS = 40
"""Maximum number of epochs in the table; of more, the first and the last are shown."""
_UNKNOWN = "–"


def show(content: dict[str, Any], console: Console) -> None:
    """Print the result of `report.document`."""
    for finding in content["findings"]:
        colour = COLOURS[CODES[finding["code"]].level]
        console.print(f"[{colour}]{finding['code']}[/]")
        console.print(Padding(escape(finding["text"]), (0, 0, 0, 2), expand=False))
    console.print()
    for line in sentences(content):
        console.print(escape(line))
    console.print()
    if content["epochs"]:
        console.print(_table(content))
    for title, lines in (
        ("Defects of the published code", [finding_line(finding) for finding in content["published_defects"]]),
        ("What this cannot tell", content["cannot_tell"]),
        ("Read", [*content["source"]["names"], *content["source"]["notes"]]),
    ):
        if lines:
            console.print(f"\n[bold]{title}[/]")
            for line in lines:
                console.print(Padding(escape(line), (0, 0, 0, 2), expand=False))


def sentences(content: dict[str, Any]) -> list[str]:
    """Describe the shares in sentences."""
    shares, failing = content["shares"], content["failing_samples_if_batch"]
    if not shares["disc_loss_count"]:
        return ["No discriminator loss of a step is recorded."]
    if content["source"]["kind"] == "run":
        said = [
            f"Over {shares['disc_loss_count']} windows of steps the discriminator's loss is exactly 0, its update left "
            f"out, in {share(shares['disc_loss_zero'])} of the steps."
        ]
        if shares["disc_loss_under_1e-3"] is not None:
            said.append(f"It is under 0.001 in {share(shares['disc_loss_under_1e-3'])} of them, those included.")
    else:
        said = [
            f"Of {shares['disc_loss_count']} logged discriminator losses, {share(shares['disc_loss_zero'])} are 0 as "
            f"written and {share(shares['disc_loss_under_1e-3'])} are under 0.001, those included."
        ]
    if shares["disc_loss_lowest_not_zero"] is not None:
        quantiles = shares["disc_loss_quantiles_not_zero"]
        said.append(
            f"Those that are not 0 lie between {shares['disc_loss_lowest_not_zero']:.2g} and "
            f"{shares['disc_loss_highest']:.2g}, the median at {quantiles['0.5']:.2g}."
        )
    if failing:
        listed = ", ".join(f"{value:.1%} with a batch of {batch}" for batch, value in failing.items())
        said.append(f"One failed score skips a batch's update, so that many come from this share of samples: {listed}.")
    if shares["disc_loss_under_1e-3"] and shares["disc_loss_zeros_are"] == "none":
        said.append("A skipped update logs exactly 0, and none does: small losses here are learnt, not skipped.")
    return said


def share(value: float | None) -> str:
    """Format a share in percent."""
    return _UNKNOWN if value is None else f"{value:.1%}"


def columns(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the non-empty columns of the table of epochs: key, heading, format."""
    possible = (
        ("disc_losses", "losses", "d"),
        ("zero", "exactly 0", ".1%"),
        ("under_1e-3", "under 0.001", ".1%"),
        ("lowest_not_zero", "lowest > 0", ".2g"),
        ("median_not_zero", "median > 0", ".2g"),
        ("highest", "highest", ".2g"),
        ("updates_made", "updates", ".1%"),
        ("valid_share", "scored", ".1%"),
        ("level_db", "level, dB", "+.1f"),
        ("rank_correlation", "rank corr.", ".2f"),
        ("calibration_error", "calibr. error", ".3f"),
        ("generator_loss", "train loss", ".4f"),
        ("validation_loss", "valid. loss", ".4f"),
        ("pesq", "PESQ", ".3f"),
        ("score", Scale.of_run(content["source"]).label, ".3f"),
        ("files_scored", "files scored", ".0%"),
    )
    return [of for of in possible if any(row.get(of[0]) not in (None, 0) for row in content["epochs"])]


def cell(value: float | None, form: str) -> str:
    """Format a number as its column requires."""
    return _UNKNOWN if value is None else format(value, form)


def finding_line(finding: dict[str, str]) -> str:
    """Format the evidence on one defect of the published code."""
    return f"{STANDS[finding['stand']]}: {finding['defect']}: {finding['text']}"


def _table(content: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("epoch", justify="right")
    shown = columns(content)
    for _, heading, _ in shown:
        table.add_column(heading, justify="right")
    rows = content["epochs"]
    for i, row in enumerate(rows):
        if len(rows) > MOST_EPOCHS and MOST_EPOCHS // 2 <= i < len(rows) - MOST_EPOCHS // 2:
            if i == MOST_EPOCHS // 2:
                table.add_row("…", *("…" for _ in shown))
            continue
        table.add_row(str(row["epoch"]), *(cell(row[key], form) for key, _, form in shown))
    return table
