"""Runs of a comparison that ended by an error, and the record of the error beside their checkpoints."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cmgan_jax.errors import UserError, lacks_memory
from cmgan_jax.runs.folder import is_run
from cmgan_jax.system.outputs import write_json
from cmgan_jax.training.divergence import Diverged

NAME = "failure.json"
"""Name of the record's file in the run folder."""


@dataclass(frozen=True)
class RunFailure:
    """Why a run ended before its last epoch.

    Attributes:
        diverged: whether its losses or gradients became non-finite, in which case a restart would end in the same way.
        reason: the reason in words.
    """

    diverged: bool
    reason: str

    def __str__(self) -> str:
        return f"diverged, {self.reason}" if self.diverged else self.reason


class RunFailed(Exception):
    """One run of a comparison could not be trained to the end; the others are unaffected.

    Attributes:
        failure: the record of the error.
    """

    def __init__(self, failure: RunFailure):
        super().__init__(failure.reason)
        self.failure = failure


@contextmanager
def one_run(folder: Path) -> Iterator[None]:
    """Convert every error that concerns only one run to `RunFailed`.

    Args:
        folder: the run folder, whose path is omitted from the reason.

    Raises:
        RunFailed: damaged or missing files, a disk that is full, scoring processes that do not start, too little
            memory, a run that diverged, or a folder that another process holds.
    """
    try:
        yield
    except UserError as error:
        raise RunFailed(RunFailure(isinstance(error, Diverged), _first_line(error, folder))) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise RunFailed(RunFailure(False, f"{where}{error.strerror or error}")) from error
    except MemoryError as error:
        raise RunFailed(RunFailure(False, "this machine lacks memory")) from error
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        raise RunFailed(RunFailure(False, f"the device lacks memory ({str(error).splitlines()[0]})")) from error


def write(folder: Path, failure: RunFailure) -> None:
    """Save a failure in the run folder. Without a folder yet, or if the disk refuses, a restart tries it again."""
    if is_run(folder):
        with suppress(OSError):
            write_json(folder / NAME, asdict(failure))


def read(folder: Path) -> RunFailure | None:
    """Read the failure in a run folder; None if there is none, or it cannot be read."""
    try:
        content = json.loads((folder / NAME).read_text())
        return RunFailure(bool(content["diverged"]), str(content["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(folder: Path) -> None:
    """Delete the saved failure, because the run continues."""
    (folder / NAME).unlink(missing_ok=True)


def _first_line(error: UserError, folder: Path) -> str:
    return str(error).split("\n")[0].removeprefix(f"{folder}: ")
