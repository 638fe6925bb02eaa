"""Results of a comparison: measures of each run, and confidence intervals over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from cmgan_jax.comparison import failure
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.runs import records as run_records
from cmgan_jax.runs.folder import ABOUT, is_run, read_about
from cmgan_jax.runs.records import join_ranges

LAST = 3
"""Number of final epochs whose mean is a run's result, because a single epoch is noisy."""


@dataclass(frozen=True)
class FinishedRun:
    """One run, as recorded in its folder.

    Attributes:
        variant: name of its variant.
        seed: its seed.
        epochs: one record per epoch, in order; a lost record has only its number.
        planned: planned number of epochs.
        config: the run's configuration.
        about: the content of run.json.
        failure: why it ended before its last epoch; "" if it did not, or was stopped.
        metric: the metric that it trains on.
        compared: the metric by which it is compared with others: the common one of all runs, or PESQ if they differ.
    """

    variant: str
    seed: int
    epochs: list[dict[str, Any]]
    planned: int
    config: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    metric: Scale = PESQ
    compared: Scale = PESQ

    @property
    def complete(self) -> bool:
        """Whether the run was trained to the end."""
        return not self.failure and len(self.epochs) >= self.planned

    @property
    def unscored(self) -> dict[int, str]:
        """Epochs whose score does not cover all held-out files, by number, with the reason."""
        return {
            number: run_records.unscored_in_words(record)
            for number, record in enumerate(self.epochs, 1)
            if not self._is_scored(record)
        }

    @property
    def unscored_at_end(self) -> dict[int, str]:
        """Such epochs among the last ones, whose mean would be the result."""
        return {number: why for number, why in self.unscored.items() if number > len(self.epochs) - LAST}

    @property
    def lacks(self) -> str:
        """Why the run has no result, in words; "" if it has one."""
        if self.failure:
            return f"seed {self.seed} failed: {self.failure}"
        if not self.complete:
            return f"seed {self.seed} is at epoch {len(self.epochs)} of {self.planned}"
        if missing := self.unscored_at_end:
            plural = "s" * (len(missing) > 1)
            return (
                f"seed {self.seed} has no whole {self.compared.label} in epoch{plural} {join_ranges(missing)} of "
                f"{self.planned} ({'; '.join(dict.fromkeys(missing.values()))})"
            )
        return ""

    def column(self, path: str) -> np.ndarray:
        """float64[epochs]: a number of every epoch by its path (``validation.pesq``); NaN where it is missing."""
        return np.array([_at(record, path) for record in self.epochs], dtype=np.float64)

    @property
    def score(self) -> np.ndarray:
        """float64[epochs]: validation score by the compared metric; NaN where it does not cover all files."""
        scored = [self._is_scored(record) for record in self.epochs]
        return np.where(scored, self.column(f"validation.{self.score_name}"), np.nan) if scored else np.empty(0)

    @property
    def score_name(self) -> str:
        """Name of the compared number in records: `score`, or `pesq` if the run's own metric is another."""
        return "score" if self.compared.name == self.metric.name else "pesq"

    def _is_scored(self, record: dict[str, Any]) -> bool:
        if self.score_name == "score":
            return run_records.is_scored(record)
        return math.isfinite(_at(record, "validation.pesq"))


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, with its confidence interval.

    Attributes:
        mean: mean of the seeds that have the number; None if none has.
        low: lower end of the 95 % interval by Student's t; None below two seeds.
        high: its upper end.
        n: number of seeds that have it.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int


def read_runs(out: Path) -> list[FinishedRun]:
    """Read every run in a comparison's folder, ordered by variant and seed.

    Raises:
        UserError: there is no run.
    """
    folders = sorted(folder for folder in out.glob("*/seed-*") if is_run(folder))
    if not folders:
        raise UserError(f"{out} holds no runs (VARIANT/seed-N/{ABOUT}): name the folder of a comparison")
    runs = sorted(map(_read, folders), key=lambda run: (run.variant, run.seed))
    metrics = {run.metric for run in runs if run.config}
    compared = metrics.pop() if len(metrics) == 1 else PESQ
    return [replace(run, compared=compared) for run in runs]


def _read(folder: Path) -> FinishedRun:
    failed = failure.read(folder)
    records = run_records.epochs_of(run_records.read(folder)[0])
    try:
        about = read_about(folder)
        config = about["config"]
        planned, seed = int(config["epochs"]), int(config["seed"])
    except (UserError, KeyError, TypeError, ValueError):
        number = folder.name.removeprefix("seed-")
        seed = int(number) if number.lstrip("-").isdecimal() else 0
        return FinishedRun(folder.parent.name, seed, records, 0, {}, {}, f"{ABOUT} cannot be read")
    metric = Scale.of_run(about)
    return FinishedRun(folder.parent.name, seed, records, planned, config, about, str(failed or ""), metric)


def measures(run: FinishedRun) -> dict[str, float]:
    """Compute a run's measures by name; NaN if missing, e.g. because a final epoch was not completely scored.

    Returns:
        `best`, `last` (mean of the last three epochs) and `fall` (best minus last) of the validation score; `si_sdr` in
        dB, `level` (output against clean) in dB, `calibration` (mean absolute error of the discriminator, of targets
        from 0 to 1), `rank` (its rank correlation with true scores), all means of the last three epochs; `updates` and
        `valid`, shares over the whole run of discriminator updates made and of scores that are valid.
    """
    scores, oriented = run.score, run.compared.oriented
    best, last = oriented(_best(oriented(scores))), _last(scores)
    return {
        "best": best,
        "last": last,
        "fall": oriented(best - last),
        "si_sdr": _last(run.column("validation.si_sdr")),
        "level": _tail(run.column("train.level_db")),
        "calibration": _tail(run.column("train.window_error")),
        "rank": _tail(run.column("train.rank_correlation")),
        "updates": _mean(run.column("train.discriminator_update")),
        "valid": _mean(run.column("train.valid_share")),
    }


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval (Student's t) of the finite values."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if finite.size < 2:
        return Interval(float(finite[0]) if finite.size else None, None, None, finite.size)
    mean, error = float(finite.mean()), float(finite.std(ddof=1)) / math.sqrt(finite.size)
    half = float(stats.t.ppf(0.975, finite.size - 1)) * error
    return Interval(mean, mean - half, mean + half, finite.size)


def summary(runs: Sequence[FinishedRun]) -> dict[str, dict[str, Interval]]:
    """`measures` by variant, over the seeds that were trained to the end."""
    names = list(dict.fromkeys(run.variant for run in runs))
    measured = {name: [measures(run) for run in runs if run.variant == name and run.complete] for name in names}
    keys = measures(FinishedRun("", 0, [], 0, {}))
    return {name: {key: interval([m[key] for m in of]) for key in keys} for name, of in measured.items()}


def difference(runs: Sequence[FinishedRun], variant: str, reference: str, measure: str = "last") -> Interval:
    """Difference of a measure between two variants, paired by seed, as equal seeds saw the same data.

    Only runs trained to the end count.
    """
    values = {(run.variant, run.seed): measures(run)[measure] for run in runs if run.complete}
    seeds = sorted({seed for name, seed in values if name == variant} & {s for name, s in values if name == reference})
    return interval([values[variant, seed] - values[reference, seed] for seed in seeds])


def _at(record: dict[str, Any], path: str) -> float:
    value: Any = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else math.nan


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan


def _best(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else math.nan


def _tail(values: np.ndarray) -> float:
    return _mean(values[-LAST:])


def _last(values: np.ndarray) -> float:
    """Mean of the last epochs; NaN unless each has the number."""
    return float(np.mean(values[-LAST:])) if values.size else math.nan
