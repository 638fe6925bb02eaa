"""Runs of a comparison, one after another; the same command started elsewhere takes those that nobody has."""

import fcntl
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from cmgan_jax.comparison.study import Item
from cmgan_jax.data.corpus import Corpus
from cmgan_jax.runs import ABOUT
from cmgan_jax.training.display import Display
from cmgan_jax.training.launch import Wishes, launch
from cmgan_jax.training.records import read_metrics
from cmgan_jax.training.start import Start, refuse_misfit


def train_all(
    items: Sequence[Item],
    corpus: Corpus,
    display: Display,
    devices: int,
    source: dict[str, Any],
    start: Start | None = None,
) -> signal.Signals | None:
    """Train what is not trained yet, and go on with what was interrupted.

    Args:
        items: the runs, in their order.
        corpus: what all train on, already checked.
        display: what a person sees.
        devices: of each run; 0: all that the batch divides over.
        source: the command line's words for the corpus, for the runs' records.
        start: what every run begins with; None: random weights.

    Returns:
        The signal that ended it, or None.

    Raises:
        UserError: the weights to begin with do not fit the runs.
    """
    for item in items:
        if start is not None:
            refuse_misfit(start, item.config, item.variant)
    for place, item in enumerate(items, 1):
        with _claimed(item.folder) as mine:
            if not mine or is_complete(item):
                continue
            resume = (item.folder / ABOUT).exists()
            display.note(f"run {place} of {len(items)}: {item.variant}, seed {item.config.seed}")
            outcome = launch(item.config, corpus, Wishes(item.folder, devices, resume), display, source, start)
            # Each run compiles its own programs; kept, they would take half a gigabyte a run.
            jax.clear_caches()
            if outcome.interrupted:
                return outcome.interrupted
    return None


def is_complete(item: Item) -> bool:
    """Whether every epoch of a run is recorded."""
    return len(read_metrics(item.folder, "epoch")) >= item.config.epochs


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Whether this process has the run now; the system gives it up when the process ends, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
