"""Diagnose what went wrong in a training: `cmgan diagnose RUN|LOG… [--json] [--page FILE.html]`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from cmgan_jax.cli._terminal import table_console
from cmgan_jax.diagnosis import page, report, terminal
from cmgan_jax.diagnosis.finding import CODES
from cmgan_jax.diagnosis.published_training import read_history
from cmgan_jax.errors import UserError
from cmgan_jax.system.outputs import refuse_file, write_text

COLLAPSED = 3
"""Exit status if validation PESQ collapsed."""
WIDTH = 120


@dataclass(frozen=True)
class Arguments:
    """Diagnose a run of this project, or the logs of the published PyTorch trainer.

    Logs are text (`GPU: 0, Epoch 16, Step 1500, loss: 0.109, disc_loss: 0.000004` and `GPU: 0, Generator loss: …,
    Discriminator loss: …`) or CSV, of steps or of epochs, gzipped or not; all given files must belong to one training.

    The exit status is 3 if validation PESQ collapsed, 2 if nothing can be read, 0 otherwise.
    """

    source: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """A run folder; or log files and folders of log files."""
    json: bool = False
    """Print JSON instead of text."""
    page: Path | None = None
    """Also write a page with the curves to this file."""
    codes: bool = False
    """List the codes of findings with their rules, and exit."""


def show_codes(console: Console) -> None:
    """Print the table of codes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("code", "level", "meaning", "rule"):
        table.add_column(heading, no_wrap=heading == "code")
    for name, code in CODES.items():
        table.add_row(name, code.level, code.meaning, code.rule)
    console.print(table)


def main() -> int:
    """Parse arguments, read, diagnose and print; the exit status tells of a collapse."""
    arguments = tyro.cli(Arguments, prog="cmgan diagnose", config=(tyro.conf.FlagCreatePairsOff,))
    refuse_file("--page", arguments.page)
    console = table_console(WIDTH)
    if arguments.codes:
        show_codes(console)
        return 0
    if not arguments.source:
        raise UserError("nothing to diagnose: name a run folder, a log, or a folder of logs (--help says more)")
    history = read_history(arguments.source)
    content = report.document(history)
    if arguments.page:
        write_text(arguments.page, page.build(history, content))
    if arguments.json:
        print(json.dumps(content, indent=1, allow_nan=False))
    else:
        terminal.show(content, console)
    return COLLAPSED if report.collapsed(content) else 0
