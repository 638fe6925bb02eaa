"""The history of a training as columns of numbers, independent of the source.

Names are those of `metrics.jsonl`: a column of steps is called `discriminator_loss`, one of epochs `validation.score`
or `train.generator_loss`, a count by reason `failures.timeout`. Unknown values are NaN. Recorded values that are not
finite are counted in a separate column, such as `not_finite.validation.loss`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from cmgan_jax.errors import UserError
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.runs import records as run_records
from cmgan_jax.runs.folder import ABOUT, SET_ASIDE, read_about, started
from cmgan_jax.runs.records import METRICS

__all__ = ["METRICS", "Columns", "History", "Source", "columns", "flat"]

LOST = "not_finite."
"""Prefix of the columns that count values recorded as not finite."""
Kind = Literal["run", "log"]
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """The source of the numbers, which limits what they can tell.

    Attributes:
        kind: `run`, a run of this project, in which a step row is the mean over a window; or `log`, a log of the
            published trainer, in which a row is one step out of many.
        names: names of the files read.
        resolution: spacing of discriminator losses as printed; a printed 0 may be anything below half of it. 0 means
            full precision.
        settings: the configuration by dotted path, such as `targets.policy`; empty where the source does not have it.
        notes: remarks from reading: torn lines, several devices, a restart.
        stopped: steps at which a run stopped because too many consecutive steps were not finite; its last window has no
            record.
        metric: name, unit and range of the target metric.
    """

    kind: Kind = "run"
    names: tuple[str, ...] = ()
    resolution: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stopped: tuple[int, ...] = ()
    metric: Scale = PESQ


@dataclass(frozen=True)
class History:
    """Everything a training has recorded so far.

    Attributes:
        source: source of the numbers.
        steps: columns of the step records, float64[n] each, in order.
        epochs: columns of the epoch records, float64[m] each, in order.
    """

    source: Source = field(default_factory=Source)
    steps: Columns = field(default_factory=dict)
    epochs: Columns = field(default_factory=dict)

    def step(self, name: str) -> np.ndarray:
        """Return a column of the step records; all NaN if it was not recorded."""
        return _column(self.steps, name)

    def epoch(self, name: str) -> np.ndarray:
        """Return a column of the epoch records; all NaN if it was not recorded."""
        return _column(self.epochs, name)

    def trained(self, name: str) -> np.ndarray:
        """Return a column of training steps: from the step records, or from the epochs' means if those lack it."""
        steps = self.step(name)
        return steps if np.isfinite(steps).any() else self.epoch(f"train.{name}")

    @property
    def metric(self) -> Scale:
        """Name, unit and range of the target metric."""
        return self.source.metric

    @property
    def score(self) -> np.ndarray:
        """float64[m]: validation score of each epoch; NaN where it does not cover all held-out files."""
        return np.where(self.epoch("validation.complete") == 0, np.nan, self.epoch("validation.score"))

    def since(self, epoch: float, name: str) -> np.ndarray:
        """Return the part of a step column from the given epoch on."""
        return self.step(name)[self.step("epoch") >= epoch]

    @classmethod
    def from_run(cls, folder: Path) -> Self:
        """Read a run folder of this project, which may still be in use.

        Args:
            folder: the folder with `metrics.jsonl`, and `run.json` unless it was lost.

        Raises:
            UserError: there are no records, or they are damaged.
        """
        path = folder / METRICS
        if not path.is_file():
            raise UserError(f"{folder}: no {METRICS} in it; name a run folder that cmgan train wrote")
        records, notes = run_records.read(folder)
        about = _about(folder / ABOUT)
        config = about.get("config")
        notes += (began,) if (began := started(about)) else ()
        numbers = config if isinstance(config, dict) else {}
        history = cls.from_records(records, numbers, (str(folder),), notes, Scale.of_run(about))
        steps = (path.stem.rpartition("_")[2] for path in folder.glob(SET_ASIDE.format("*")))
        stopped = tuple(sorted(int(step) for step in steps if step.isdecimal()))
        return replace(history, source=replace(history.source, stopped=stopped))

    @classmethod
    def from_records(
        cls,
        records: Iterable[Mapping[str, Any]],
        numbers: Mapping[str, Any] | None = None,
        names: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        metric: Scale = PESQ,
    ) -> Self:
        """Make columns from the records of `metrics.jsonl`.

        Args:
            records: records of kinds `step` and `epoch`; others are ignored.
            numbers: the configuration, nested as in `run.json` or by dotted path.
            names: see `Source`.
            notes: see `Source`.
            metric: see `Source`.
        """
        kinds: dict[str, list[Mapping[str, Any]]] = {"step": [], "epoch": []}
        for record in run_records.in_order(records):
            kinds.get(str(record.get("kind")), []).append(record)
        kinds["epoch"] = [_marked(record) for record in kinds["epoch"]]
        source = Source("run", names, 0.0, dict(flat(numbers or {})), notes, metric=metric)
        return cls(source, columns(kinds["step"]), columns(kinds["epoch"]))


def columns(records: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Make columns of the numbers in records, nested ones by dotted path; gaps and non-numbers are NaN.

    Values recorded as null or infinite are also counted, in `not_finite.NAME`.
    """
    rows = [dict(flat(record)) for record in records]
    for row in rows:
        row |= {LOST + name: 1.0 for name, value in row.items() if _is_lost(value)}
    names = dict.fromkeys(name for row in rows for name, value in row.items() if _is_number(value))
    return {
        name: np.array([float(row[name]) if _is_number(row.get(name)) else _absent(name) for row in rows])
        for name in names
    }


def flat(numbers: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield names by dotted path, with their values."""
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _absent(name: str) -> float:
    """Return the value of a record that lacks such a number."""
    return 0.0 if name.startswith(LOST) else math.nan


def _is_lost(value: Any) -> bool:
    """Whether a value is how a number that is not finite is recorded."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _marked(record: Mapping[str, Any]) -> dict[str, Any]:
    """Mark in an epoch's record whether its score covers all held-out files."""
    validation = record.get("validation")
    if not isinstance(validation, dict) or "score" not in validation:
        return dict(record)
    return {**record, "validation": validation | {"complete": run_records.is_scored(record)}}


def _column(columns: Columns, name: str) -> np.ndarray:
    if name in columns:
        return columns[name]
    return np.full(len(next(iter(columns.values()), ())), math.nan)


def _about(path: Path) -> dict[str, Any]:
    """Read run.json, or a checkpoint's copy if it is damaged; without the file, only the records are diagnosed."""
    if not path.exists():
        return {}
    try:
        return read_about(path.parent)
    except UserError as error:
        raise UserError(
            f"{path} is damaged ({error}); put it back, or move it away to diagnose the records alone"
        ) from error
