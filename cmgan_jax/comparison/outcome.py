"""What the runs of a comparison came to: measures of each, and intervals over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from cmgan_jax.errors import UserError
from cmgan_jax.runs import ABOUT, read_about
from cmgan_jax.training.records import read_metrics

LAST = 3
"""Epochs, from the end, whose mean is a run's result: one epoch alone is noise."""


@dataclass(frozen=True)
class Run:
    """One run as its folder has it.

    Attributes:
        variant: name of its variant.
        seed: its seed.
        epochs: records of its epochs, in order.
        planned: epochs that it was to have.
        config: its numbers.
    """

    variant: str
    seed: int
    epochs: list[dict[str, Any]]
    planned: int
    config: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether it was trained to its end."""
        return len(self.epochs) >= self.planned

    def column(self, path: str) -> np.ndarray:
        """float64[epochs]: one number of every epoch by its path (``validation.pesq``); NaN where there is none."""
        return np.array([_at(record, path) for record in self.epochs], dtype=np.float64)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds.

    Attributes:
        mean: of the seeds that have the number; None if none has.
        low: lower end of the 95 % interval by Student's t; None below two seeds.
        high: its upper end.
        n: seeds that have it.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int


def read_runs(out: Path) -> list[Run]:
    """Every run below a comparison's folder, by variant and seed.

    Raises:
        UserError: there is none.
    """
    folders = sorted(path.parent for path in out.glob(f"*/seed-*/{ABOUT}"))
    if not folders:
        raise UserError(f"{out} holds no runs (VARIANT/seed-N/{ABOUT}): name the folder of a comparison")
    runs = []
    for folder in folders:
        config = read_about(folder)["config"]
        records = read_metrics(folder, "epoch")
        runs.append(Run(folder.parent.name, config["seed"], records, config["epochs"], config))
    return sorted(runs, key=lambda run: (run.variant, run.seed))


def measures(run: Run) -> dict[str, float]:
    """A run's numbers by name; NaN where it has none.

    Returns:
        `best`, `last` (mean of the last three epochs) and `fall` (best minus last) of validation PESQ, MOS; `si_sdr` in
        dB, `level` (output against clean) in dB, `calibration` (mean absolute error of the discriminator, of targets
        from 0 to 1), `rank` (its rank correlation with true PESQ), all means of the last three epochs; `updates` and
        `valid`, shares over the whole run of discriminator updates made and of scores that are valid.
    """
    pesq = run.column("validation.pesq")
    best, last = _best(pesq), _tail(pesq)
    return {
        "best": best,
        "last": last,
        "fall": best - last,
        "si_sdr": _tail(run.column("validation.si_sdr")),
        "level": _tail(run.column("train.level_db")),
        "calibration": _tail(run.column("train.window_error")),
        "rank": _tail(run.column("train.rank_correlation")),
        "updates": _mean(run.column("train.discriminator_update")),
        "valid": _mean(run.column("train.valid_share")),
    }


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval (Student's t) of what is finite among `values`."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if finite.size < 2:
        return Interval(float(finite[0]) if finite.size else None, None, None, finite.size)
    mean, error = float(finite.mean()), float(finite.std(ddof=1)) / math.sqrt(finite.size)
    half = float(stats.t.ppf(0.975, finite.size - 1)) * error
    return Interval(mean, mean - half, mean + half, finite.size)


def summary(runs: Sequence[Run]) -> dict[str, dict[str, Interval]]:
    """`measures` over the seeds of each variant, by variant."""
    names = list(dict.fromkeys(run.variant for run in runs))
    measured = {name: [measures(run) for run in runs if run.variant == name] for name in names}
    return {name: {key: interval([m[key] for m in of]) for key in of[0]} for name, of in measured.items()}


def difference(runs: Sequence[Run], variant: str, reference: str, measure: str = "last") -> Interval:
    """A measure of one variant minus that of another, in pairs: equal seeds saw the same data."""
    values = {(run.variant, run.seed): measures(run)[measure] for run in runs}
    seeds = sorted({seed for name, seed in values if name == variant} & {s for name, s in values if name == reference})
    return interval([values[variant, seed] - values[reference, seed] for seed in seeds])


def _at(record: dict[str, Any], path: str) -> float:
    value: Any = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return math.nan if value is None else float(value)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan


def _best(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else math.nan


def _tail(values: np.ndarray) -> float:
    return _mean(values[-LAST:])
