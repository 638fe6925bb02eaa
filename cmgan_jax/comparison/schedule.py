"""Execution of the runs of a comparison; the same command, started elsewhere, takes the runs that nobody has begun."""

import fcntl
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from cmgan_jax.comparison import failure
from cmgan_jax.comparison.study import PlannedRun
from cmgan_jax.config import Config
from cmgan_jax.data.corpus import Corpus
from cmgan_jax.errors import UserError
from cmgan_jax.runs import records as run_records
from cmgan_jax.runs.folder import is_run, read_about
from cmgan_jax.training.display import Display
from cmgan_jax.training.identity import HOST, differences
from cmgan_jax.training.launch import RunOptions, asked, launch
from cmgan_jax.training.parallel import choose_devices
from cmgan_jax.training.start import Start, refuse_misfit


@dataclass(frozen=True)
class Ended:
    """The end of a comparison's training.

    Attributes:
        interrupted: the signal that interrupted it, or None.
        failed: the failures of runs that did not reach their end, by folder; they do not affect the others.
    """

    interrupted: signal.Signals | None
    failed: Mapping[Path, failure.RunFailure]


def train_all(
    items: Sequence[PlannedRun],
    open_corpus: Callable[[Config], Corpus],
    display: Display,
    devices: int,
    source: dict[str, Any],
    start: Start | None = None,
    retry: bool = False,
) -> Ended:
    """Train unfinished runs, and resume interrupted ones; a failing run does not stop the others.

    Args:
        items: the runs, in order.
        open_corpus: opens and checks the corpus of a config; called once for all runs that divide the same files the
            same way.
        display: shows the progress to the user.
        devices: devices per run; 0 uses as many as divide the batch.
        source: the command line's arguments for the corpus, for the runs' records.
        start: initial weights of every run; None for random ones.
        retry: also resume runs that diverged.

    Raises:
        UserError: raised before any training: the initial weights do not fit the runs, a batch does not split over the
            devices, a variant's corpus cannot be used, or a folder holds another run.
    """
    for item in items:
        if start is not None:
            refuse_misfit(start, item.config, item.variant)
        with _named(item):
            choose_devices(devices, item.config.batch)
    corpora = _corpora(items, open_corpus)
    refuse_others(items, corpora, start)
    failed: dict[Path, failure.RunFailure] = {}
    # A run that ended without a word, e.g. because the system killed its process, may end so again; it is run last.
    for place, item in enumerate(sorted(items, key=lambda item: _died(item.folder)), 1):
        with _claimed(item.folder) as mine:
            if not mine or is_complete(item):
                continue
            before = failure.read(item.folder)
            if before and before.diverged and not retry:
                display.note(f"{item.variant}, seed {item.config.seed} diverged: {before.reason}; it is left as it is")
                failed[item.folder] = before
                continue
            display.note(f"run {place} of {len(items)}: {item.variant}, seed {item.config.seed}")
            options = RunOptions(item.folder, devices, resume=is_run(item.folder))
            try:
                with failure.one_run(item.folder):
                    failure.forget(item.folder)
                    outcome = launch(item.config, corpora[_division(item)], options, display, source, start)
            except failure.RunFailed as error:
                failed[item.folder] = error.failure
                failure.write(item.folder, error.failure)
                display.note(f"{item.folder} failed: {error}; the comparison goes on without it")
                continue
            finally:
                # Each run compiles its own programs; keeping them would take half a gigabyte per run.
                jax.clear_caches()
            if outcome.interrupted:
                return Ended(outcome.interrupted, failed)
    return Ended(None, failed)


def refuse_others(items: Sequence[PlannedRun], corpora: Mapping[Any, Corpus], start: Start | None) -> None:
    """Check that the runs in the folders, finished or not, are the requested ones.

    Args:
        items: the runs.
        corpora: the runs' corpora, by division.
        start: their initial weights; None for random ones.

    Raises:
        UserError: there are differences; the message lists each with its runs.
    """
    others: dict[tuple[str, ...], list[str]] = {}
    for item in items:
        # `launch` repairs or refuses a folder that cannot be read.
        if (saved := _record(item.folder)) is None:
            continue
        wanted = asked(item.config, corpora[_division(item)], start, saved)
        # With more epochs, a run continues from its end.
        longer = {"epochs"} if saved["config"].get("epochs", 0) <= item.config.epochs else set()
        if lines := differences(wanted, saved, HOST | longer):
            others.setdefault(tuple(lines), []).append(f"{item.variant}/{item.folder.name}")
    if others:
        listed = [f"  {', '.join(names)}:\n    " + "\n    ".join(lines) for lines, names in others.items()]
        raise UserError(
            f"{items[0].folder.parent.parent} holds runs that are not those asked for; choose another --out, ask for "
            "what they have, or delete their folders:\n" + "\n".join(listed)
        )


def is_complete(item: PlannedRun) -> bool:
    """Whether every epoch of a run is recorded; `refuse_others` checks that it is the right run."""
    records, _ = run_records.read(item.folder)
    return len(run_records.epochs_of(records)) >= item.config.epochs


def _record(folder: Path) -> dict[str, Any] | None:
    if not is_run(folder):
        return None
    try:
        about = read_about(folder)
    except UserError:
        return None
    return about if isinstance(about, dict) and isinstance(about.get("config"), dict) else None


def _division(item: PlannedRun) -> Any:
    """Return what in a config decides which files a corpus has, and which of them are for validation."""
    return item.config.data, item.config.spectral


def _corpora(items: Sequence[PlannedRun], open_corpus: Callable[[Config], Corpus]) -> dict[Any, Corpus]:
    corpora: dict[Any, Corpus] = {}
    for item in items:
        if _division(item) not in corpora:
            with _named(item):
                corpora[_division(item)] = open_corpus(item.config)
    return corpora


@contextmanager
def _named(item: PlannedRun) -> Iterator[None]:
    """Add the run's name to its errors."""
    try:
        yield
    except UserError as error:
        raise UserError(f"variant {item.variant}: {error}") from error


def _lock(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def _died(folder: Path) -> bool:
    """Whether the last process that had the run ended without a word, e.g. was killed."""
    path = _lock(folder)
    return path.exists() and path.stat().st_size > 0


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Try to lock the run for this process, and yield whether that succeeded; the lock ends with the process.

    The lock file contains a word while the run is locked, which remains if the process is killed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        file.truncate(0)
        file.write("taken\n")
        file.flush()
        try:
            yield True
        finally:
            file.truncate(0)
