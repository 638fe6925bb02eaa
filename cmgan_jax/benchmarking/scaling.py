"""Scaling of a step over devices: points measured in turns, their evaluation, and a page that shows them."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.table import Table

from cmgan_jax.benchmarking.clock import Timing, alternate
from cmgan_jax.benchmarking.collectives import read_trace, seconds_in
from cmgan_jax.benchmarking.material import make_corpus
from cmgan_jax.benchmarking.prediction import OneDevice, Prediction
from cmgan_jax.benchmarking.report import median
from cmgan_jax.benchmarking.workload import Workload
from cmgan_jax.config import Config
from cmgan_jax.data.pipeline import training_batches
from cmgan_jax.report.charts import Axis, Series, line_chart
from cmgan_jax.report.webpage import chart_grid, document, notices, section, table
from cmgan_jax.system import temporaries

PROFILED = 2
"""Number of profiled steps, from which the share of collectives is computed."""
VIRTUAL = (
    "These devices are made of the cores of one CPU: they prove that the program runs, splits its batch and adds up "
    "its gradients; they say nothing about speed."
)


@dataclass(frozen=True)
class Point:
    """The measurement of one number of devices with one global batch.

    Attributes:
        devices: number of devices.
        batch: crops per step over all devices.
        step: seconds of a step with PESQ.
        constant: seconds of a step in which PESQ is a constant.
        pesq_wait_ms: median milliseconds that a step waits for scores.
        exchanged: bytes of a step's collectives on one device, from the compiled programs.
        exchanges: number of collectives per step.
        exchange_share: share of all devices' time in collectives, including waiting for one another.
    """

    devices: int
    batch: int
    step: Timing
    constant: Timing
    pesq_wait_ms: float
    exchanged: int
    exchanges: int
    exchange_share: float

    @property
    def crops_per_second(self) -> float:
        """Throughput with PESQ, at the median time."""
        return self.batch / self.step.median

    def cores(self, pesq: float) -> int:
        """Return the cores that keep PESQ hidden within a step's time, if a score takes `pesq` seconds on a core."""
        return math.ceil(self.batch * pesq / self.constant.median)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {**asdict(self), "crops_per_second": self.crops_per_second}


def plan(counts: Sequence[int], per_device: int, batch: int) -> list[tuple[int, int]]:
    """List devices and global batch of every point: a constant batch per device (weak scaling) or in all (strong)."""
    return sorted({(n, per_device * n) for n in counts} | {(n, batch) for n in counts})


def measure_points(config: Config, wished: Sequence[tuple[int, int]], repeats: int) -> list[Point]:
    """Measure all points, taking turns.

    Args:
        config: the configuration; its batch is replaced.
        wished: the result of `plan`.
        repeats: number of samples of each figure.
    """
    with ExitStack() as opened:
        folder = opened.enter_context(temporaries.folder())
        corpus = make_corpus(folder / "corpus", config)
        workloads = {}
        for devices, batch in wished:
            sized = replace(config, batch=batch)
            batches = training_batches(corpus, sized)
            opened.callback(batches.close)
            workload = Workload(sized, jax.local_devices()[:devices], batches)
            workloads[devices, batch] = opened.enter_context(workload)
        kinds = ("step", "constant")
        cases = {(kind, key): workload.samples()[kind] for kind in kinds for key, workload in workloads.items()}
        timings = alternate(cases, repeats)
        points = []
        for (devices, batch), workload in workloads.items():
            share = exchange_share(workload, devices, folder / f"profile-{devices}-{batch}")
            exchanges = workload.exchanges
            points.append(
                Point(
                    devices,
                    batch,
                    *(timings[kind, (devices, batch)] for kind in kinds),
                    pesq_wait_ms=median(workload.waits["step"].pesq) or 0.0,
                    exchanged=sum(exchange.bytes * exchange.runs for exchange in exchanges),
                    exchanges=sum(exchange.runs for exchange in exchanges),
                    exchange_share=share,
                )
            )
    return points


def exchange_share(workload: Workload, devices: int, folder: Path) -> float:
    """Profile a few steps, and return the share of the devices' time spent in collectives."""
    names = {exchange.name for exchange in workload.exchanges}
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, create_perfetto_trace=True, profiler_options=options):
        seconds = PROFILED * workload.samples()["step"](PROFILED)
    return seconds_in(read_trace(folder), names) / (devices * seconds)


def efficiency(points: Sequence[Point], point: Point) -> float:
    """Return the throughput per device, relative to the point with the fewest devices at the same batch.

    Weak scaling compares points with the same batch per device, strong scaling those with the same global batch.
    """
    weak = [p for p in points if p.batch * point.devices == point.batch * p.devices]
    strong = [p for p in points if p.batch == point.batch]
    base = min(weak if len(weak) > 1 else strong, key=lambda p: p.devices)
    return point.crops_per_second / point.devices / (base.crops_per_second / base.devices)


def one_device(point: Point, pesq: float, several: Point | None) -> OneDevice:
    """Combine the input of a prediction: a point of one device, and the collectives of one with several."""
    reduced, exchanges = (several.exchanged, several.exchanges) if several else (0, 0)
    source = f"measured here: one device, batch {point.batch}"
    return OneDevice(point.batch, point.constant.median, pesq, reduced, exchanges, source)


HEAD = (
    "scaling",
    "devices",
    "batch",
    "crops/s",
    "efficiency",
    "in collectives",
    "exchanged, MB",
    "wait PESQ, ms",
    "cores for PESQ",
)


def point_rows(points: Sequence[Point], per_device: int, batch: int, pesq: float) -> list[list[str]]:
    """Make cells of `HEAD` for weak scaling, then for strong scaling."""
    weak = [point for point in points if point.batch == per_device * point.devices]
    strong = [point for point in points if point.batch == batch]
    return [
        [
            kind,
            str(point.devices),
            str(point.batch),
            f"{point.crops_per_second:.2f}",
            f"{efficiency(series, point):.0%}",
            f"{point.exchange_share:.1%}",
            f"{point.exchanged / 1e6:.2f}",
            f"{point.pesq_wait_ms:.0f}",
            str(point.cores(pesq)),
        ]
        for kind, series in (("weak", weak), ("strong", strong))
        for point in series
    ]


PREDICTED_HEAD = (
    "devices",
    "crops/s",
    "efficiency",
    "step, ms",
    "collectives, ms",
    "straggling, ms",
    "wait PESQ, ms",
    "cores a host",
    "paper's training, h",
)


def prediction_rows(predictions: Sequence[Prediction]) -> list[list[str]]:
    """Make cells of `PREDICTED_HEAD`."""
    return [
        [
            str(p.devices),
            f"{p.crops_per_second:.1f}",
            f"{p.efficiency:.0%}",
            *(f"{1e3 * seconds:.1f}" for seconds in (p.step, p.exchange, p.straggling, p.pesq_wait)),
            str(p.cores),
            f"{p.hours:.1f}",
        ]
        for p in predictions
    ]


def rich_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Make a table for the terminal."""
    shown = Table(title=title, title_justify="left")
    for name in head:
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(*row)
    return shown


def page(
    subtitle: str, notes: Sequence[str], rows: Sequence[Sequence[str]], predicted: Sequence[Prediction], about: str
) -> str:
    """Make a page of the measurements, the predictions and their assumptions.

    Args:
        subtitle: machine and size.
        notes: what a reader should know first.
        rows: the result of `point_rows`.
        predicted: predictions by number of devices.
        about: the assumptions, in a sentence.
    """
    devices = Axis("devices", low=1.0, whole=True)
    kinds = [kind for kind in ("weak", "strong") if any(row[0] == kind for row in rows)]

    def measured(column: int) -> list[Series]:
        return [Series(kind, *_columns([row for row in rows if row[0] == kind], column), dots=True) for kind in kinds]

    charts = [
        line_chart("Crops a second", measured(HEAD.index("crops/s")), devices, Axis("crops/s", low=0.0)),
        line_chart("Efficiency", measured(HEAD.index("efficiency")), devices, Axis("%", low=0.0)),
        line_chart("Waiting for PESQ", measured(HEAD.index("wait PESQ, ms")), devices, Axis("ms a step", low=0.0)),
    ]
    body = section("What to know first", notices([("warn", note) for note in notes])) if notes else ""
    body += section("Measured", chart_grid(charts) + table(HEAD, rows))
    if predicted:
        count = np.array([p.devices for p in predicted], float)
        rates = [
            Series("predicted", count, np.array([p.crops_per_second for p in predicted]), dots=True),
            Series("as if nothing were lost", count, count * predicted[0].crops_per_second / count[0], dashed=True),
        ]
        across = Axis("devices", log=True)
        chart = line_chart("Predicted crops a second", rates, across, Axis("crops/s", log=True), about)
        body += section("Predicted", chart_grid([chart]) + table(PREDICTED_HEAD, prediction_rows(predicted)))
    return document("Scaling", subtitle, body)


def _columns(rows: Sequence[Sequence[str]], column: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(row[1]) for row in rows]), np.array([float(row[column].rstrip("%")) for row in rows])
