"""Shared terminal output of the entry points: the progress bar, and the console for tables."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""Seconds between progress lines where there is no terminal."""


def table_console(width: int | None = None) -> Console:
    """Make a console for tables on standard output.

    Args:
        width: columns if the output is not a terminal; it is then not coloured either.
    """
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else width, no_color=None if terminal else True, highlight=False)


def terminal_bar(transient: bool = False) -> Progress | None:
    """Make a progress bar on standard error, not yet started; None if that is not a terminal.

    Args:
        transient: whether it disappears at the end.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    # File names may contain brackets, which are not markup.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=transient)
