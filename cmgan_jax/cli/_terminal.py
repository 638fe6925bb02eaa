"""What entry points share to speak to a person: the progress bar, and the console of tables."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""Where there is no terminal, a line is printed so often."""


def table_console(width: int | None = None) -> Console:
    """Standard output for tables.

    Args:
        width: columns where it is no terminal; there nothing is coloured either.
    """
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else width, no_color=None if terminal else True, highlight=False)


def terminal_bar(transient: bool = False) -> Progress | None:
    """A bar on standard error, not yet started; None where that is no terminal.

    Args:
        transient: it vanishes at the end.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    # Names of files may hold brackets, which are no markup.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=transient)
