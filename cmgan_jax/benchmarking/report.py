"""Benchmark results: rows, tables of them, and the same as plain containers."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
from rich.table import Table

from cmgan_jax.benchmarking.ceilings import Ceilings
from cmgan_jax.benchmarking.clock import Timing, ratio
from cmgan_jax.benchmarking.pesq_cost import SCORES, PesqCost
from cmgan_jax.benchmarking.work import Work
from cmgan_jax.system.cores import free_cores

OURS = "jax"
HIDDEN = 1.02
"""Goal for the time of a step with PESQ relative to one with a constant."""
PACE = 0.9
"""Goal for the main thread's speed while scores are computed, relative to that without scoring."""
SHARED = 1.3
"""Goal for the time of 16 scores on C cores, relative to 16 / C times that of one score."""


@dataclass(frozen=True)
class BenchmarkRow:
    """The timing of one program, at one batch size, of ours or of a baseline.

    Attributes:
        side: `jax`, or the name of the baseline.
        program: the program's key.
        title: the program's name in tables.
        precision: `fp32`, `bf16`, …
        batch: crops per batch.
        timing: seconds of one run.
        floor: lower bound of its seconds; None where it is unknown for this side.
        pesq_wait_ms: median milliseconds that a step waits for scores; None for other programs.
        data_wait_ms: the same for waits for crops.
    """

    side: str
    program: str
    title: str
    precision: str
    batch: int
    timing: Timing
    floor: float | None = None
    pesq_wait_ms: float | None = None
    data_wait_ms: float | None = None

    @property
    def milliseconds(self) -> float:
        """Median milliseconds of one run."""
        return 1e3 * self.timing.median

    @property
    def crops_per_second(self) -> float:
        """Throughput at the median time."""
        return self.batch / self.timing.median

    @property
    def floor_share(self) -> float | None:
        """Lower bound over measured time; 1 would be the device's full performance."""
        return None if self.floor is None else self.floor / self.timing.median

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        figures = ("milliseconds", "crops_per_second", "floor_share")
        return {**asdict(self), **{name: getattr(self, name) for name in figures}}


@dataclass(frozen=True)
class Setup:
    """Compile time and memory at one batch size.

    Attributes:
        precision: precision of the networks.
        batch: crops per batch.
        compile_seconds: compile time by program, without a cache.
        first_step: seconds of the first step if all programs are in the compilation cache.
        temporaries: bytes of temporary memory by program, as XLA counts them.
        step_bytes: maximum bytes that a program of the step uses, arguments and results included.
        rss: peak resident set size of the process so far, in bytes.
        device_peak: peak bytes in use on the device so far; None on a CPU.
    """

    precision: str
    batch: int
    compile_seconds: dict[str, float]
    first_step: float
    temporaries: dict[str, int]
    step_bytes: int
    rss: int
    device_peak: int | None


def median(values: Sequence[float]) -> float | None:
    """Return the median, or None without values."""
    return statistics.median(values) if values else None


def machine() -> dict[str, Any]:
    """Describe this machine, without names that identify its owner."""
    device = jax.devices()[0]
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "cores": free_cores(),
        "load": load,
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def timing_table(rows: Sequence[BenchmarkRow], title: str) -> Table:
    """Make a table of all rows; with baselines, it shows how much faster ours is (the median of paired ratios)."""
    table = Table(title=title, title_justify="left")
    compared = any(row.side != OURS for row in rows)
    columns = ["side", "batch", "precision", "ms", "crops/s", "of floor", "wait PESQ, ms", "wait data, ms"]
    table.add_column("program")
    for name in columns + (["ours is faster by"] if compared else []):
        table.add_column(name, justify="left" if name in ("side", "precision") else "right")
    for row in rows:
        cells = [row.title, row.side, str(row.batch), row.precision, _number(row.milliseconds)]
        cells += [f"{row.crops_per_second:.2f}", _share(row.floor_share)]
        cells += [_number(row.pesq_wait_ms), _number(row.data_wait_ms)]
        if compared:
            cells.append("" if row.side == OURS else "  ".join(_against(rows, row)))
        table.add_row(*cells, end_section=row is rows[-1] or rows[rows.index(row) + 1].program != row.program)
    return table


def setup_table(setups: Sequence[Setup]) -> Table:
    """Make a table of compile times and memory."""
    table = Table(title="compiling and memory", title_justify="left")
    names = [
        "batch",
        "precision",
        "compile, s (cold)",
        "first step, s (cached)",
        "temporaries, MB",
        "held by a step, MB",
    ]
    for name in [*names, "peak RSS so far, MB", "peak of device so far, MB"]:
        table.add_column(name, justify="right")
    for setup in setups:
        step = sum(seconds for name, seconds in setup.compile_seconds.items() if name != "forward")
        table.add_row(
            str(setup.batch),
            setup.precision,
            f"{step:.1f}",
            f"{setup.first_step:.1f}",
            _megabytes(max(setup.temporaries.values())),
            _megabytes(setup.step_bytes),
            _megabytes(setup.rss),
            _megabytes(setup.device_peak),
        )
    return table


def rival_table(rivals: Sequence[dict[str, Any]]) -> Table:
    """Make a table of the baselines: versions, first runs (including compilation) and memory."""
    table = Table(title="compared with", title_justify="left")
    for name in ("side", "precision", "batch", "version", "device", "first runs, s", "peak RSS, MB"):
        table.add_column(name)
    for rival in rivals:
        first = ", ".join(f"{name} {seconds:.1f}" for name, seconds in rival["first_s"].items())
        cells = [str(rival[name]) for name in ("side", "precision", "batch", "torch", "device")]
        table.add_row(*cells, first, _megabytes(rival["memory"]["rss"]))
    table.caption = "; ".join(sorted({rival["settings"] for rival in rivals if "settings" in rival}))
    return table


def ceiling_table(ceilings: Ceilings, work: dict[str, Work]) -> Table:
    """Make a table of the device's limits, and of the work for one crop."""
    table = Table(title="ceilings of the device (measured), work of a crop (on paper)", title_justify="left")
    for name in ("", "GMAC", "least traffic in float32, GB", *(f"floor in {p}, ms" for p in ceilings.macs_per_second)):
        table.add_column(name, justify="right" if name else "left")
    for name, part in work.items():
        floors = (part.floor(p, rate, ceilings.bytes_per_second) for p, rate in ceilings.macs_per_second.items())
        cells = f"{part.macs / 1e9:.2f}", f"{4 * part.elements / 1e9:.2f}", *(f"{1e3 * s:.3g}" for s in floors)
        table.add_row(name, *cells)
    rates = ", ".join(f"{rate / 1e9:.0f} GMAC/s in {p}" for p, rate in ceilings.macs_per_second.items())
    table.caption = f"copy {ceilings.bytes_per_second / 1e9:.1f} GB/s, matrix product {rates}"
    return table


def pesq_table(cost: PesqCost) -> Table:
    """Make a table of PESQ's cost during training, with its goals."""
    table = Table(title=f"PESQ on {cost.cores} cores", title_justify="left")
    for name, side in (("", "left"), ("found", "right"), ("goal", "left")):
        table.add_column(name, justify="left" if side == "left" else "right")
    table.add_row("one score", f"{cost.one_ms:.1f} ms", "")
    table.add_row(f"{SCORES} scores, a worker a core", f"{cost.all_ms:.0f} ms", "")
    table.add_row(f"… over {SCORES} / cores × one", f"{cost.ideal_ratio:.2f}", f"at most {SHARED}")
    beside = f"main thread's pace beside {cost.workers} worker(s)"
    table.add_row(beside, f"{cost.pace:.0%}", f"at least {PACE:.0%}")
    table.add_row("… and its share of a core meanwhile", f"{cost.cpu_share:.0%}", "100 % where cores are free")
    return table


def hidden(rows: Sequence[BenchmarkRow]) -> list[dict[str, Any]]:
    """For each size, compare the step with PESQ to the step with a constant; `HIDDEN` is the goal with enough cores."""
    steps = {(r.side, r.precision, r.batch): r for r in rows if r.program == "step"}
    constants = {(r.side, r.precision, r.batch): r for r in rows if r.program == "constant"}
    return [
        {"side": side, "precision": precision, "batch": batch, "ratio": ratio(constants[key].timing, row.timing)}
        for key, row in steps.items()
        if key in constants
        for side, precision, batch in [key]
    ]


def _against(rows: Sequence[BenchmarkRow], rival: BenchmarkRow) -> list[str]:
    ours = [r for r in rows if r.side == OURS and (r.program, r.batch) == (rival.program, rival.batch)]
    return [f"{ratio(row.timing, rival.timing):.2f} ({row.precision})" for row in ours]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _megabytes(value: int | None) -> str:
    return "–" if value is None else f"{value / 1e6:.0f}"
