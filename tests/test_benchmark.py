"""The benchmark's parts: turns, ratios, ceilings, a workload of the smallest size, tables, and the entry point."""

import gzip
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import pytest
from rich.console import Console
from rich.table import Table

from cmgan_jax.benchmarking import report, schedule
from cmgan_jax.benchmarking.ceilings import measure_ceilings
from cmgan_jax.benchmarking.clock import MOST, Gone, Timing, alternate, ratio
from cmgan_jax.benchmarking.health_cost import health_table, measure_health
from cmgan_jax.benchmarking.material import make_crops
from cmgan_jax.benchmarking.memory import device_peak, peak_rss
from cmgan_jax.benchmarking.pesq_cost import PesqCost, measure_pesq
from cmgan_jax.benchmarking.report import BenchmarkRow
from cmgan_jax.benchmarking.workload import PROGRAMS, SwitchedScorer, Workload
from cmgan_jax.cli import benchmark
from cmgan_jax.cli.benchmark import Arguments
from cmgan_jax.config import Config
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.scoring_pool import ScorePool
from cmgan_jax.recipes import make_config, override
from cmgan_jax.system.outputs import plain

SMALLEST = override(make_config("recommended", "tiny"), {"batch": 1, "generator.blocks": 0, "generator.dense_depth": 0})


def test_cases_take_turns() -> None:
    order: list[str] = []

    def sample(name: str, seconds: float) -> Callable[[int], float]:
        def run(runs: int) -> float:
            order.append(f"{name}{runs}")
            return seconds

        return run

    timings = alternate({"a": sample("a", 0.3), "b": sample("b", 1e-6)}, repeats=2)
    # A warm-up and a probe each; samples of 0.5 s or MOST runs; then A B A B.
    assert order == ["a1", "a1", "b1", "b1", "a2", f"b{MOST}", "a2", f"b{MOST}"]
    assert timings["a"] == Timing((0.3, 0.3))


def test_a_case_that_ends_leaves_the_others() -> None:
    asked: list[str] = []

    def ends_after(name: str, count: int) -> Callable[[int], float]:
        def run(runs: int) -> float:
            asked.append(name)
            if asked.count(name) > count:
                raise Gone(f"{name} has ended")
            return 0.3

        return run

    cases = {"never": ends_after("never", 0), "late": ends_after("late", 3), "stays": ends_after("stays", 99)}
    assert alternate(cases, repeats=3) == {"stays": Timing((0.3, 0.3, 0.3))}
    # A warm-up, a probe, and one of three samples before the one that fails: nothing is asked again.
    assert (asked.count("never"), asked.count("late"), asked.count("stays")) == (1, 4, 5)


def test_numbers_that_cannot_work_are_refused() -> None:
    for wrong, message in (
        ({"batch": ()}, "--batch: at least one"),
        ({"precision": ()}, "--precision: at least one"),
        ({"window_batch": (0,)}, "--window-batch 0"),
        ({"files": -1}, "--files and --minutes"),
        ({"minutes": -1.0}, "--files and --minutes"),
        ({"repeats": 0}, "--repeats 0"),
        ({"part": ("enhance",), "window": (0.01,)}, "window"),
    ):
        with pytest.raises(UserError, match=message):
            benchmark.sizes(replace(Arguments(preset="tiny"), **wrong))


def test_ratio_is_the_median_of_pairs() -> None:
    # Ratios 2, 2 and 4: a slow moment that hits both sides alike leaves the ratio alone.
    assert ratio(Timing((1.0, 10.0, 1.0)), Timing((2.0, 20.0, 4.0))) == 2.0


def test_ceilings_are_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmgan_jax.benchmarking.ceilings.COPIED", {"cpu": 2**20})
    monkeypatch.setattr("cmgan_jax.benchmarking.ceilings.SIDE", {"cpu": 128})
    ceilings = measure_ceilings(jax.devices()[0], ("fp32",), repeats=2)
    # Any machine of this century moves between 1 MB and 100 TB a second, and multiplies 1e6 to 1e16 times.
    assert 1e6 < ceilings.bytes_per_second < 1e14
    assert 1e6 < ceilings.macs_per_second["fp32"] < 1e16


def test_crops_can_be_scored() -> None:
    crops = make_crops(2, 1.0, 16_000)
    assert crops["clean"].shape == crops["noisy"].shape == (2, 16_000)
    with ScorePool(1, time_limit=60.0) as pool:
        scores = [future.result() for future in pool.score_batch(crops["clean"], crops["noisy"])]
    assert [score.failure for score in scores] == [None, None]


def test_workload_runs_every_program_and_counts_its_waits() -> None:
    crops = make_crops(SMALLEST.batch, SMALLEST.data.crop_seconds, 16_000)
    with Workload(SMALLEST, jax.devices()[:1], iter(lambda: crops, None)) as workload:
        samples = workload.samples()
        assert set(samples) == set(PROGRAMS)
        for sample in samples.values():
            assert sample(2) > 0
        assert len(workload.waits["constant"].pesq) == 2
        assert len(workload.waits["step"].pesq) == 3  # The first step, too.
        # A constant is there at once; a real score takes its milliseconds, behind the backward pass or not.
        assert max(workload.waits["constant"].pesq) < 1.0
        assert set(workload.compiled) == {"forward", "training forward", "training backward", "discriminator"}
        assert workload.compile_seconds > 0
        # Residuals of one crop, at the least: its spectrogram of 81 × 201 complex numbers.
        assert workload.step_bytes > 8 * 81 * 201


def test_constant_scores_need_no_worker() -> None:
    config = Config()
    crops = make_crops(2, 0.5, 16_000)
    with SwitchedScorer(config.targets, 2, 0, 16_000) as scorer:
        scorer.constant = True
        began = time.perf_counter()
        targets, found = scorer.submit(0, crops["clean"], crops["noisy"]).collect()
        assert time.perf_counter() - began < 0.05
        # (2.5 - 1) / 3.5, by the definition of targets.
        assert targets.value == pytest.approx([1.5 / 3.5] * 2)
        assert found.mean == 2.5


def test_pesq_cost_is_measured() -> None:
    cost = measure_pesq(0.5, 16_000, repeats=1)
    assert cost.one_ms > 0
    assert cost.all_ms > cost.one_ms
    assert cost.ideal_ratio == pytest.approx(cost.all_ms / (cost.one_ms * 16 / min(cost.cores, 16)))
    assert cost.pace > 0
    assert 0 < cost.cpu_share <= 1.05


def test_health_is_reckoned_by_how_often_each_part_is_paid() -> None:
    """Two passes of 1 s every 4th step, findings every 2 · 3 steps, beside steps of 10 s."""
    often = override(SMALLEST, {"health.adversarial_every": 4, "health.diagnose_every": 2, "log_every": 3})
    cost = measure_health(often, generator=1.0, step=10.0, repeats=2)
    assert cost.passes == 2.0
    assert 0 < cost.window < cost.findings
    assert cost.share == pytest.approx((cost.window + cost.findings / 6 + 2.0 / 4) / 10)
    never = override(SMALLEST, {"health.adversarial_every": 0, "health.diagnose_every": 0})
    cost = measure_health(never, generator=1.0, step=10.0, repeats=2)
    assert cost.share == pytest.approx(cost.window / 10)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(health_table(cost, never))
    assert console.export_text().count("never") == 2


def test_memory_is_that_of_this_process() -> None:
    # An interpreter with JAX in it takes over 100 MB; no test needs 100 GB. A CPU device counts nothing.
    assert 100e6 < peak_rss() < 100e9
    assert device_peak(jax.devices("cpu")[0]) is None


def shown(table: Table) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def row(side: str, program: str, seconds: float) -> BenchmarkRow:
    return BenchmarkRow(side, program, PROGRAMS[program], "fp32", 2, Timing((seconds,) * 3), floor=0.1)


def test_rows_know_their_figures() -> None:
    one = row("jax", "step", 0.5)
    assert (one.milliseconds, one.crops_per_second, one.floor_share) == (500.0, 4.0, 0.2)
    assert one.to_dict()["crops_per_second"] == 4.0


def test_tables_show_rivals_and_hidden_pesq() -> None:
    rows = [row("jax", "constant", 0.5), row("jax", "step", 0.6), row("torch eager", "step", 1.5)]
    text = shown(report.timing_table(rows, "training"))
    assert "2.50 (fp32)" in text  # 1.5 over 0.6
    assert "20.0%" in text  # a floor of 0.1 in 0.5
    (case,) = report.hidden(rows)
    assert case["ratio"] == pytest.approx(1.2)


def test_pesq_table_names_its_goals() -> None:
    text = shown(report.pesq_table(PesqCost(4, 3, 20.0, 88.0, 1.1, 0.97, 0.99)))
    for figure in ("1.10", "at most 1.3", "97%", "at least 90%"):
        assert figure in text


@pytest.mark.subprocess
def test_precision_that_is_not_there_is_refused(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "experiments.benchmark", "--precision", "float8", "--json", str(tmp_path / "x.json")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "float8" in done.stderr
    assert "bf16" in done.stderr


@pytest.mark.subprocess
def test_entry_point_measures_pesq(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = ["--part", "pesq", "--preset", "tiny", "--repeats", "1", "--json", str(out)]
    done = subprocess.run([sys.executable, "-m", "experiments.benchmark", *words], check=True, capture_output=True)
    assert b"main thread's pace" in done.stdout
    assert json.loads(out.read_text())["pesq"]["cores"] >= 1


@pytest.mark.timeout(300)
def test_scores_hide_behind_a_device_that_only_takes_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a fifth of the scores' time wait, steps of twenty times do not, and are longer."""
    monkeypatch.setattr(schedule, "LENGTHS", (0.2, 20.0))
    monkeypatch.setattr(schedule, "STEPS", 2)
    rows = schedule.measure_schedule(SMALLEST, repeats=1)
    assert [(row.length, row.ahead) for row in rows] == [(0.2, False), (0.2, True), (20.0, False), (20.0, True)]
    for row in rows:
        assert (row.wait == 0.0) is (row.length == 20.0)
    assert rows[2].constant.median > rows[0].constant.median
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(schedule.schedule_table(rows))
    assert f"{rows[0].ratio:.3f}" in console.export_text()


def test_training_is_measured_and_profiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmark, "chosen", lambda arguments: SMALLEST)
    monkeypatch.setattr("cmgan_jax.benchmarking.ceilings.SIDE", {"cpu": 128})
    console = Console(width=160, record=True, file=io.StringIO())
    arguments = Arguments(part=("train",), batch=(1,), repeats=1, profile=tmp_path)
    found = json.loads(json.dumps(plain(benchmark.measure(arguments, console))))
    assert [row["program"] for row in found["rows"]] == list(PROGRAMS)
    assert found["hidden"][0]["ratio"] > 0
    assert "a step with PESQ takes" in console.export_text()
    (trace,) = tmp_path.rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    named = [event["name"] for event in events if event.get("ph") == "X"]
    # A score and a wait for it in each of the profiled steps.
    assert named.count("PESQ") == named.count("wait for scores") == benchmark.PROFILED
