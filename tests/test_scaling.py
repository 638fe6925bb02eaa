"""Scaling: collectives read from programs and profiles, predictions by hand, a run on virtual devices."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from cmgan_jax.benchmarking.clock import Timing
from cmgan_jax.benchmarking.collectives import Collective, collectives, seconds_in
from cmgan_jax.benchmarking.prediction import Assumptions, OneDevice, expected_maximum, predict
from cmgan_jax.benchmarking.scaling import Point, efficiency, plan, point_rows
from cmgan_jax.cli import scaling
from cmgan_jax.cli.scaling import Arguments, checked, from_figures
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config, override
from cmgan_jax.system.outputs import plain
from cmgan_jax.training.state import random_state

SMALLEST = override(make_config("recommended", "tiny"), {"generator.blocks": 0, "generator.dense_depth": 0})


def test_collectives_of_a_compiled_program() -> None:
    def step(w: jax.Array, x: jax.Array) -> Any:
        return jax.lax.pmean((w * x.sum(), w[:3].sum()), "b"), jax.lax.all_gather(x, "b", tiled=True)

    mapped = jax.pmap(step, "b", in_axes=(None, 0), devices=jax.devices()[:2])
    program = mapped.lower(jnp.ones(1000), jnp.ones((2, 5))).compile().as_text()
    found = {kind: 0 for kind in ("all-reduce", "all-gather")}
    for one in collectives(program):
        found[one.kind] += one.bytes
    # 1000 numbers and a sum of four bytes each; five of each device gathered.
    assert found == {"all-reduce": 4004, "all-gather": 40}


def test_a_collective_in_a_loop_counts_for_each_round() -> None:
    def step(x: jax.Array) -> jax.Array:
        def inner(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jax.lax.psum(x, "b") * 0.5, None

        def outer(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jax.lax.psum(jax.lax.scan(inner, x, length=5)[0], "b"), None

        return jax.lax.psum(jax.lax.scan(outer, x, length=3)[0], "b")

    mapped = jax.pmap(step, "b", devices=jax.devices()[:2])
    found = collectives(mapped.lower(jnp.ones((2, 7))).compile().as_text())
    assert sorted((one.runs, one.bytes) for one in found) == [(1, 28), (3, 28), (15, 28)]


def test_collectives_in_the_text_of_a_gpu_program() -> None:
    text = """
  %all-reduce-start.1 = (bf16[8,4]{1,0}, pred[3]{0}) all-reduce-start(%a, %b), channel_id=1, to_apply=%sum
  %all-reduce-done.1 = (bf16[8,4]{1,0}, pred[3]{0}) all-reduce-done(%all-reduce-start.1)
  %get-tuple-element = bf16[8,4]{1,0} get-tuple-element(%all-reduce-done.1), index=0
"""
    assert collectives(text) == (Collective("all-reduce-start.1", "all-reduce", 8 * 4 * 2 + 3),)


def test_seconds_are_those_of_named_instructions() -> None:
    events = [
        {"dur": 250.0, "args": {"hlo_op": "all-reduce.1"}},
        {"dur": 750.0, "args": {"hlo_op": "all-reduce.1"}},
        {"dur": 9.0, "args": {"hlo_op": "dot.3"}},
        {"dur": 9.0},
    ]
    assert seconds_in(events, {"all-reduce.1"}) == pytest.approx(1e-3)


ONE = OneDevice(batch=4, step=0.05, pesq=0.02, reduced=10**9, exchanges=10, source="by hand")
PLAIN = Assumptions(
    devices_per_host=8,
    cores_per_host=8,
    link=100.0,
    network=10.0,
    latency=100.0,
    network_latency=200.0,
    straggling=0.0,
)


def test_prediction_by_hand() -> None:
    alone = predict(ONE, 1, PLAIN)
    assert (alone.step, alone.efficiency, alone.cores) == (pytest.approx(0.05), pytest.approx(1.0), 2)  # 4 · 20 / 50 ms
    # Four: 2 · 3/4 · 1 GB at 100 GB/s is 15 ms, ten exchanges of 0.1 ms; PESQ 16 · 20 / 8 = 40 ms hides in 50.
    four = predict(ONE, 4, PLAIN)
    assert four.exchange == pytest.approx(0.016)
    assert four.pesq_wait == 0.0
    assert four.crops_per_second == pytest.approx(16 / 0.066)
    assert four.hours == pytest.approx(11_572 * 120 / (16 / 0.066) / 3600)
    # Eight: 32 scores take 80 ms of 8 cores, 30 more than hide.
    assert predict(ONE, 8, PLAIN).pesq_wait == pytest.approx(0.030)
    # A score of 20 ms behind 15 ms: 5 are waited for, on however many cores.
    assert predict(replace(ONE, step=0.015), 1, replace(PLAIN, cores_per_host=99)).pesq_wait == pytest.approx(0.005)
    # Sixty-four on eight hosts: 2 · 7/8 GB within at 100 and as much between at 10 GB/s; 10 · (0.1 + 0.2) ms.
    assert predict(ONE, 64, PLAIN).exchange == pytest.approx(0.0175 + 0.175 + 0.003)


def test_stragglers_by_the_expected_maximum() -> None:
    # Tabulated expectations of the largest of n standard normal draws (order statistics).
    assert expected_maximum(1) == 0.0
    for count, expected in ((2, 0.564), (8, 1.424), (100, 2.508)):
        assert expected_maximum(count) == pytest.approx(expected, abs=0.03)
    slow = predict(ONE, 8, Assumptions(straggling=0.1))
    assert slow.straggling == pytest.approx(0.05 * 0.1 * expected_maximum(8))


def point(devices: int, batch: int, seconds: float) -> Point:
    step, constant = Timing((seconds,)), Timing((0.9 * seconds,))
    return Point(devices, batch, step, constant, pesq_wait_ms=5.0, exchanged=2_000_000, exchanges=3, exchange_share=0.1)


def test_plan_measures_a_shared_point_once() -> None:
    assert plan((1, 2, 4), per_device=2, batch=8) == [(1, 2), (1, 8), (2, 4), (2, 8), (4, 8)]


def test_efficiency_weak_and_strong() -> None:
    weak = [point(1, 2, 1.0), point(2, 4, 1.25)]
    assert efficiency(weak, weak[1]) == pytest.approx(0.8)  # as long would be 1
    strong = [point(1, 4, 2.0), point(2, 4, 1.25)]
    assert efficiency(strong, strong[1]) == pytest.approx(0.8)  # half as long would be 1
    rows = point_rows([*weak, strong[0]], per_device=2, batch=4, pesq=0.5)
    assert [row[0] for row in rows] == ["weak", "weak", "strong", "strong"]
    # 4 scores of 0.5 s behind a step of 0.9 · 1.25 s.
    assert rows[1][-1] == str(math.ceil(2.0 / 1.125))


def test_numbers_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--batch 5 does not split evenly over \[2\]"):
        checked(Arguments(devices=(1, 2), batch=5))
    with pytest.raises(UserError, match="at least 1"):
        checked(Arguments(devices=(0,)))
    with pytest.raises(UserError, match=r"--assume.devices-per-host 0: it must be more than 0"):
        checked(Arguments(assume=Assumptions(devices_per_host=0)))
    with pytest.raises(UserError, match=r"--assume.latency nan: it must be a number from 0 on"):
        checked(Arguments(assume=Assumptions(latency=math.nan)))
    wrong = tmp_path / "figures.json"
    wrong.write_text("{}")
    with pytest.raises(UserError, match="not figures of"):
        from_figures(wrong)


def test_figures_of_a_benchmark_are_read(tmp_path: Path) -> None:
    def row(program: str, batch: int, milliseconds: float) -> dict[str, Any]:
        rate = 1e3 * batch / milliseconds
        figures = {"milliseconds": milliseconds, "crops_per_second": rate}
        return {"side": "jax", "program": program, "batch": batch, "precision": "fp32", **figures}

    sizes = [row("constant", 1, 30.0), row("constant", 4, 60.0), row("step", 4, 61.0)]
    machine, settings = {"device": "H100", "platform": "gpu"}, {"preset": "paper", "recipe": "recommended"}
    found = {"rows": sizes, "pesq": {"one_ms": 25.0}, "machine": machine, "arguments": settings}
    path = tmp_path / "one.json"
    path.write_text(json.dumps(found))
    one = from_figures(path)
    # The published networks have 1,834,833 and 181,650 parameters; the exchanges were counted on two CPU devices.
    assert (one.reduced, one.exchanges) == (4 * (1_834_833 + 181_650), 38)
    assert (one.batch, one.step, one.pesq) == (4, 0.06, 0.025)
    assert "H100" in one.source
    path.write_text(json.dumps(found | {"arguments": {"preset": "paper", "recipe": "published_2022"}}))
    assert from_figures(path).exchanges == 6  # Its devices do not share batch statistics.
    path.write_text(json.dumps(found | {"machine": {"device": "cpu", "platform": "cpu"}}))
    with pytest.raises(UserError, match="figures of a CPU"):
        from_figures(path)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_run_on_virtual_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scaling, "chosen", lambda arguments: SMALLEST)
    console = Console(width=200, record=True, file=io.StringIO())
    page = tmp_path / "scaling.html"
    arguments = Arguments(devices=(2,), per_device=1, repeats=1, page=page)
    found = json.loads(json.dumps(plain(scaling.measure(arguments, console))))
    (two,) = found["points"]
    assert (two["devices"], two["batch"]) == (2, 2)
    # At the least every gradient of the generator crosses, four bytes each.
    parameters = sum(
        leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: random_state(SMALLEST)).generator.params)
    )
    assert two["exchanged"] > 4 * parameters
    assert 0 < two["exchange_share"] < 1
    assert found["virtual"] is True
    text = console.export_text()
    assert "they prove that the program runs" in text
    assert "Not measured. Start: no accelerator was measured here; one H100" in text
    shown = page.read_text()
    assert "they say nothing about speed" in shown
    assert shown.count("<svg") == 4
