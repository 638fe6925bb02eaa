"""What a person sees while a model trains: one live panel on a terminal, plain lines elsewhere.

What a run tells a person, in a line each.
"""

import errno
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cmgan_jax.config import Config
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.system import streams
from cmgan_jax.system.progress import duration


def of_epoch(config: Config, record: dict[str, Any], scale: Scale = PESQ) -> str:
    """The scores of an epoch, from its record.

    Args:
        config: the run's configuration.
        record: of kind `epoch`.
        scale: of the target metric.
    """
    train, validation = record["train"], record["validation"]
    count = f"{validation['scored']} of {validation['files']} held-out files"
    score = (
        f"{scale.named(validation['score'], '.3f')} on {count}"
        if validation["complete"]
        else f"{scale.label} on {count} only"
    )
    if scale.name != PESQ.name and validation["pesq"] is not None:
        score += f", {PESQ.named(validation['pesq'], '.3f')}"
    taught = (
        f", discriminator {train['discriminator_loss']:.4f} (updated in {train['discriminator_update']:.0%} of steps)"
        if "discriminator_loss" in train
        else ""
    )
    return (
        f"epoch {record['epoch']}/{config.epochs}: {score}, "
        f"SI-SDR {validation['si_sdr']:.2f} dB, validation loss {validation['loss']:.4f}; "
        f"training loss {train['generator_loss']:.4f}{taught}, {train['crops_per_second']:.1f} crops/s"
        + (" – best so far" if record["best"] else "")
        + (f" – incomplete, so not compared: {_listed(validation['unscored'])}" if validation["unscored"] else "")
    )


def of_left_out(noisy: dict[str, Any]) -> str:
    """The held-out files that no epoch can score, from the scores of the noisy files."""
    return (
        f"{len(noisy['unscored'])} of {noisy['files']} held-out files cannot be scored, and are left out of every "
        f"epoch: {_listed(noisy['unscored'])}"
    )


def of_error(error: BaseException) -> str:
    """The first line of an error: those of storage libraries run to pages."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return words.strip().split("\n")[0][:300] or type(error).__name__


def _listed(reasons: dict[str, str], most: int = 5) -> str:
    """Files with the reasons why they have no score: the first few of them."""
    named = [f"{name} ({reason})" for name, reason in reasons.items()]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")


PANEL_SECONDS, LINE_SECONDS = 0.25, 10.0
"""How long a panel stays as it is on a terminal, and a line elsewhere."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        epoch: counted from 0.
        epochs: of the whole run.
        step: updates attempted.
        steps: of the whole run.
        seconds_left: estimate; None before there is one.
        values: means since the last record, by name.
        scale: of the target metric.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    seconds_left: float | None
    values: dict[str, Any]
    scale: Scale = PESQ


OF_DISCRIMINATOR = ("discriminator loss", "D updates made", "scores valid")
"""What the display shows of the discriminator, beside the metric."""


def facts(progress: Progress) -> dict[str, str]:
    """Label and value of everything the display shows, in order."""
    n = progress.values

    def number(name: str, form: str, scale: float = 1.0) -> str:
        value = n.get(name)
        return "–" if value is None else format(value * scale, form)

    failures = ", ".join(f"{reason} {count}" for reason, count in sorted(n.get("failures", {}).items()))
    shown = {
        "generator loss": number("generator_loss", ".4f"),
        "discriminator loss": number("discriminator_loss", ".4f"),
        "D updates made": number("discriminator_update", ".0f", 100) + " %",
        "not finite": number("not_finite", ".0f"),
        f"{progress.scale.label} of estimates": number("score", ".2f"),
        "scores valid": number("valid_share", ".0f", 100) + " %" + (f" ({failures})" if failures else ""),
        "output level": number("level_db", "+.1f") + " dB",
        "crops/s": number("crops_per_second", ".2f"),
        f"waiting for {progress.scale.label}": number("score_wait_ms", ".0f") + " ms",
        "time left": duration(progress.seconds_left),
    }
    if "generator_loss" in n and "discriminator_loss" not in n:
        # A generator that learns alone.
        metric = progress.scale.label
        for label in (*OF_DISCRIMINATOR, f"{metric} of estimates", f"waiting for {metric}"):
            del shown[label]
    return shown


class _Console(Console):
    """Tells of a reader that has gone by the usual error; rich itself would end the program."""

    def on_broken_pipe(self) -> NoReturn:
        """Called instead of raising what a write has met."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Display:
    """Shows progress; a context manager, so that the terminal is left as it was.

    A terminal that has been closed, a reader that has gone and a full disk end nothing: `lost` tells of them.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or _Console(highlight=False, soft_wrap=True)
        # Drawn by `show`, in its thread: an error of the terminal is caught here.
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._printed = -math.inf
        self._error: OSError | None = None

    @property
    def lost(self) -> OSError | None:
        """Why something of what was shown has not arrived; None: as far as is known, all has."""
        return self._error or streams.loss(self._console.file)

    def __enter__(self) -> "Display":
        if self._live:
            self._speak(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._speak(self._live.stop)

    def note(self, text: str) -> None:
        """A line that stays; brackets and colons in it are text, for file names have them too."""
        self._speak(lambda: self._console.print(text, markup=False, emoji=False))

    def show(self, progress: Progress) -> None:
        """Replace the panel, or print a line at most every 10 seconds where there is no terminal."""
        now = time.monotonic()
        due = now - self._printed > (PANEL_SECONDS if self._live else LINE_SECONDS)
        self._printed = now if due else self._printed
        if live := self._live:
            self._speak(lambda: live.update(_panel(progress), refresh=due))
        elif due:
            shown = ", ".join(f"{label} {value}" for label, value in facts(progress).items())
            self.note(f"epoch {progress.epoch + 1}/{progress.epochs}, step {progress.step}/{progress.steps}: {shown}")

    def _speak(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            self._error = self._error or error


def _panel(progress: Progress) -> Table:
    title = Text(f"epoch {progress.epoch + 1}/{progress.epochs}  step {progress.step}/{progress.steps}", style="bold")
    grid = Table.grid(padding=(0, 3))
    pairs = list(facts(progress).items())
    for start in range(0, len(pairs), 3):
        row = pairs[start : start + 3]
        grid.add_row(*(Text.assemble((f"{label} ", "dim"), value) for label, value in row))
    panel = Table.grid()
    for row in (title, ProgressBar(total=progress.steps, completed=progress.step, width=72), grid):
        panel.add_row(row)
    return panel
