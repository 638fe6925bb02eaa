"""What the results of a part say: figures, goals that are met or not, and curves. Each reads plain JSON and records."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cmgan_jax.benchmarking.clock import Timing, ratio
from cmgan_jax.benchmarking.report import HIDDEN, OURS
from cmgan_jax.recipes import from_dict
from cmgan_jax.runs.folder import ABOUT, read_about
from cmgan_jax.runs.records import epochs_of, read, read_kind
from experiments.gpu_check.kernels import GRADIENT, PARITY

EAGER, COMPILED = 3.0, 1.5
"""Goals: how many times faster than PyTorch, eager and compiled, a step should be."""
LIMITING = 0.1
"""Share of a step in which devices wait, from which on that is what limits a training."""
SMALL_SPEED, TRAIN_SMALL, PAPER = "small-speed", "train-small", "paper"
"""Folders of the trainings."""
COMPARED = {"generator": "forward and backward", "constant": "whole step, PESQ a constant", "step": "whole step"}
"""Programs that are compared with PyTorch, with their names."""
JUDGED = ("generator", "constant")
"""Those of them that have a goal: in `step` both wait for the same PESQ."""


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.shown}"

    @property
    def shown(self) -> str:
        """The number with its unit, to four digits."""
        return f"{self.value:,.4g} {self.unit}".strip() if abs(self.value) < 1e4 else f"{self.value:,.0f} {self.unit}"


@dataclass(frozen=True)
class Goal:
    """What was hoped for.

    Attributes:
        name: of what is measured.
        found: in words.
        wanted: in words.
        met: whether it was reached.
    """

    name: str
    found: str
    wanted: str
    met: bool


@dataclass(frozen=True)
class Curve:
    """How a number went with the steps of a training."""

    title: str
    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Digest:
    """What a part found.

    Attributes:
        figures: numbers.
        goals: what was hoped for.
        curves: of trainings.
        words: sentences on it.
        finished: nothing is left for another call.
    """

    figures: tuple[Figure, ...] = ()
    goals: tuple[Goal, ...] = ()
    curves: tuple[Curve, ...] = ()
    words: tuple[str, ...] = ()
    finished: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


Found = Mapping[str, Any]
"""Results of a part's cases by name: what a case's JSON holds, or the path of another file."""


def kernels(runs: Path, found: Found) -> Digest:
    """Errors of layers and networks, and the tests of parity."""
    figures, goals = [], []
    if layers := found.get("layers", {}).get("layers"):
        for precision in dict.fromkeys(row["precision"] for row in layers):
            rows = [row for row in layers if row["precision"] == precision]
            worst = max(rows, key=lambda row: row["error"] / row["allowed"])
            met = all(row["error"] <= row["allowed"] for row in rows)
            text = f"{worst['error']:.1e} ({worst['layer']})"
            goals.append(Goal(f"layers, {precision}", text, f"at most {worst['allowed']:.1e}", met))
    for row in found.get("networks", {}).get("networks", ()):
        name = f"generator, {'kernels' if row['backend'] == 'triton' else 'plain form'}, {row['precision']}"
        measures = {"value": "output beside the plain form in fp32", "gradient": "gradient beside the same"}
        measures["published"] = "output beside the published code"
        figures += [Figure(f"{name}: {text}", row[key]) for key, text in measures.items() if key in row]
        if row["precision"] == "fp32":
            limits = {"gradient": GRADIENT, "published": PARITY}
            goals += [
                Goal(f"{name}: {measures[key]}", f"{row[key]:.1e}", f"at most {limit:.0e}", row[key] <= limit)
                for key, limit in limits.items()
                if key in row
            ]
    if "parity" in found:
        suites = list(ElementTree.parse(found["parity"]).getroot().iter("testsuite"))
        count = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "skipped")}
        bad = sum(int(suite.get(name, 0)) for suite in suites for name in ("failures", "errors"))
        text = f"{count['tests'] - count['skipped'] - bad} passed, {count['skipped']} skipped, {bad} failed"
        goals.append(Goal("tests of parity", text, "none failed", bad == 0 and count["tests"] > count["skipped"]))
    return Digest(tuple(figures), tuple(goals))


def step(runs: Path, found: Found) -> Digest:
    """What a step takes, and whether PESQ is hidden in it."""
    figures, goals = [], []
    for case in found.values():
        figures += _rows(case["rows"])
        goals += [
            Goal(
                f"step with PESQ over one with a constant, batch {one['batch']}, {one['precision']}",
                f"{one['ratio']:.3f}",
                f"under {HIDDEN}",
                one["ratio"] < HIDDEN,
            )
            for one in case["hidden"]
        ]
        figures.append(Figure("one PESQ score on one core", case["pesq"]["one_ms"], "ms"))
    return Digest(tuple(dict.fromkeys(figures)), tuple(goals))


def pytorch(runs: Path, found: Found) -> Digest:
    """How many times faster ours is."""
    figures, goals, words = [], [], []
    for case in found.values():
        figures += _rows(case["rows"])
        words += case["gone"]
        ours = {row["program"]: row for row in case["rows"] if row["side"] == OURS}
        for row in case["rows"]:
            if row["side"] == OURS or row["program"] not in COMPARED:
                continue
            mine = ours[row["program"]]
            times = ratio(_timing(mine), _timing(row))
            name = f"{COMPARED[row['program']]}, {mine['precision']}, faster than {row['side']} {row['precision']}"
            figures.append(Figure(f"{name}, batch {row['batch']}", times, "times"))
            if row["program"] in JUDGED:
                wanted = COMPILED if "compiled" in row["side"] else EAGER
                goals.append(Goal(name, f"{times:.2f} times", f"at least {wanted:g} times", times >= wanted))
    return Digest(tuple(dict.fromkeys(figures)), tuple(goals), words=tuple(words))


def memory(runs: Path, found: Found) -> Digest:
    """What the largest batches hold; a case that is here has fitted."""
    figures, goals = [], []
    for case in found.values():
        figures += [row for row in _rows(case["rows"]) if row.name.startswith("whole step")]
        for setup in case["setups"]:
            size = f"batch {setup['batch']}, {setup['precision']}"
            figures.append(Figure(f"held by a step, XLA's count, {size}", setup["step_bytes"] / 1e9, "GB"))
            if setup["device_peak"] is not None:
                figures.append(Figure(f"peak of the device, {size}", setup["device_peak"] / 1e9, "GB"))
            goals.append(Goal(size, "fits", "fits", True))
    return Digest(tuple(figures), tuple(goals))


def small(runs: Path, found: Found) -> Digest:
    """Speed of preset `small`, and whether data, PESQ or the device limits it."""
    figures = list(_rows(found["step"]["rows"])) if "step" in found else []
    records = read_kind(runs / SMALL_SPEED, "step")
    # The first window has the compilation in it.
    records = records[1:] or records
    if not records:
        return Digest(tuple(figures), finished=False)
    taken = {
        name: statistics.median(record[name] for record in records)
        for name in ("step_ms", "data_wait_ms", "score_wait_ms", "crops_per_second")
    }
    names = {"step_ms": "step", "data_wait_ms": "waiting for data", "score_wait_ms": "waiting for PESQ"}
    figures += [Figure(f"training on files, {text}", taken[name], "ms") for name, text in names.items()]
    figures.append(Figure("training on files", taken["crops_per_second"], "crops/s"))
    waits = {"data": taken["data_wait_ms"], "PESQ": taken["score_wait_ms"]}
    limit = max(waits, key=lambda name: waits[name])
    limit = limit if waits[limit] > LIMITING * taken["step_ms"] else "the device or its host"
    return Digest(tuple(figures), words=(f"What limits this training: {limit}.",))


def train_small(runs: Path, found: Found) -> Digest:
    """How far both stages of the small model have come."""
    parts = [_training(runs / TRAIN_SMALL / stage, f"stage {stage}") for stage in ("losses", "metric")]
    finished = is_finished(runs / TRAIN_SMALL / "metric")
    joined = [tuple(one for part in parts for one in getattr(part, name)) for name in ("figures", "curves", "words")]
    return Digest(joined[0], curves=joined[1], words=joined[2], finished=finished)


def paper(runs: Path, found: Found) -> Digest:
    """How far the training at the paper's size has come."""
    one = _training(runs / PAPER, "the paper's size")
    return Digest(one.figures, curves=one.curves, words=one.words, finished=is_finished(runs / PAPER))


def is_finished(folder: Path) -> bool:
    """Whether a training has come to its last epoch."""
    if not (folder / ABOUT).exists():
        return False
    epochs = read_kind(folder, "epoch")
    return max((record["epoch"] for record in epochs), default=0) >= from_dict(read_about(folder)["config"]).epochs


def _training(folder: Path, name: str) -> Digest:
    """Steps, pace and scores of a run, with its curves."""
    records, _ = read(folder)
    steps, epochs = [r for r in records if r.get("kind") == "step"], epochs_of(records)
    if not steps and not epochs:
        return Digest(words=(f"{name}: nothing was trained yet.",))
    figures = [Figure(f"{name}: steps", max(r["step"] for r in records))]
    pace = [r["crops_per_second"] for r in steps[1:] or steps if "crops_per_second" in r]
    if pace:
        figures.append(Figure(f"{name}: median pace", statistics.median(pace), "crops/s"))
    curves = []
    loss = [(r["step"], r["generator_loss"]) for r in steps if r.get("generator_loss") is not None]
    scores = [(e["step"], e["validation"]["pesq"]) for e in epochs if e.get("validation", {}).get("pesq") is not None]
    for points, title in ((loss, "generator's loss"), (scores, "PESQ of held-out files")):
        if points:
            x, y = zip(*points, strict=True)
            curves.append(Curve(f"{name}: {title}", title, x, y))
    if scores:
        figures.append(Figure(f"{name}: best PESQ of held-out files", max(score for _, score in scores)))
        noisy = [e["noisy"]["pesq"] for e in epochs if e.get("noisy", {}).get("pesq") is not None]
        figures += [Figure(f"{name}: PESQ of the same files, noisy", noisy[-1])] if noisy else []
    return Digest(tuple(figures), curves=tuple(curves))


def _rows(rows: list[dict[str, Any]]) -> list[Figure]:
    """Milliseconds of each program, and of whole steps the crops a second."""
    figures = []
    for row in rows:
        name = f"{row['title']}, {row['side']}, batch {row['batch']}, {row['precision']}"
        figures.append(Figure(name, row["milliseconds"], "ms"))
        if row["program"] == "step":
            figures.append(Figure(f"{name}, pace", row["crops_per_second"], "crops/s"))
    return figures


def _timing(row: dict[str, Any]) -> Timing:
    return Timing(tuple(row["timing"]["samples"]))
