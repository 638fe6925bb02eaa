"""The check on a GPU: plans that can be run, parts that die or take too long, records, page, documents, a rehearsal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

from cmgan_jax.benchmarking.gpu_records import newest_record, newest_steps
from cmgan_jax.cli import benchmark, scaling, train
from cmgan_jax.cli._sections import parse
from cmgan_jax.config_check import check as check_config
from cmgan_jax.errors import UserError
from cmgan_jax.system.outputs import write_json
from experiments.gpu_check import command, digests, docs, kernels, material, parts, runner, wheels
from experiments.gpu_check.command import Arguments
from experiments.gpu_check.digests import Digest, Figure, Goal
from experiments.gpu_check.parts import PARTS, Case, Part, Plan, Settings

ABOUT = {"machine": {"device": "H100", "platform": "gpu", "jax": "0.11", "cores": 16}, "driver": "580.1"}
ABOUT |= {"revision": {"commit": "0123456789abcdef", "dirty": False}, "rehearsal": False}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "cases").mkdir()
    (tmp_path / "runs").mkdir()
    return Settings(tmp_path, tmp_path / "runs")


def program(folder: Path, name: str, text: str, file: Path | None = None, stops_well: bool = False) -> Case:
    """A command of a few lines of Python; it finds the file for its result in `sys.argv`."""
    (folder / f"{name}.py").write_text("import json, os, pathlib, signal, sys, time\n" + text)
    words = (name, *([str(file)] if file else []))
    return Case(name, words, file, {"PYTHONPATH": str(folder)}, stops_well)


def writes(folder: Path, name: str) -> Case:
    file = folder / f"{name}-result.json"
    return program(folder, name, 'pathlib.Path(sys.argv[1]).write_text(json.dumps({"one": 1.0}))', file)


def part(name: str, *cases: Case, **more: Any) -> Part:
    def digest(runs: Path, found: Any) -> Digest:
        goals = tuple(Goal(case, "1", "1", True) for case in found)
        return Digest((Figure("found", float(len(found))),), goals, finished=False)

    return Part(name, f"part {name}", lambda settings: Plan(cases), digest, **more)


def run_it(one: Part, settings: Settings, seconds: float = 60.0) -> dict[str, Any]:
    return runner.run_part(one, settings, seconds, lambda line: None, ABOUT)


@pytest.mark.subprocess
def test_a_part_survives_what_dies_in_it(settings: Settings, tmp_path: Path) -> None:
    """One command is killed, the next still runs; at the next call only the one that died runs again."""
    dies = program(
        tmp_path, "dies", 'print("the last words")\nsys.stdout.flush()\nos.kill(os.getpid(), 9)', tmp_path / "d"
    )
    record = run_it(part("step", dies, writes(tmp_path, "good")), settings)
    assert record["state"] == "failed"
    assert record["why"] == "dies: exit status -9"
    assert record["cases"]["dies"]["tail"] == "the last words"
    assert record["found"] == {"good": {"one": 1.0}}
    once = program(tmp_path, "good", "raise SystemExit(9)", tmp_path / "good-result.json")
    again = run_it(part("step", writes(tmp_path, "dies"), once), settings)
    assert again["state"] == "done"
    assert again["found"] == {"good": {"one": 1.0}, "dies": {"one": 1.0}}


@pytest.mark.subprocess
def test_time_that_is_over_ends_a_command_and_what_it_has_started(settings: Settings, tmp_path: Path) -> None:
    """A process that ignores the request is killed with its child, and the next command has no time left."""
    text = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(600)"
    )
    hangs = program(tmp_path, "hangs", text, tmp_path / "never")
    record = run_it(part("step", hangs, writes(tmp_path, "later")), settings, seconds=3.0)
    assert "hangs: its time was over" in record["why"]
    assert "later: no time was left" in record["why"]
    child = int(record["cases"]["hangs"]["tail"])
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]


@pytest.mark.subprocess
def test_a_training_that_is_stopped_is_done_for_this_call(settings: Settings, tmp_path: Path) -> None:
    """128 + SIGTERM, as trainings end when they have saved; the part goes on until it has had all of its time."""
    text = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\ntime.sleep(600)"
    one = part("paper", program(tmp_path, "trains", text, stops_well=True), goes_on=True, most=40.0)
    record = run_it(one, settings, seconds=3.0)
    assert (record["state"], record["finished"]) == ("done", False)
    assert "everything is saved" in record["cases"]["trains"]["why"]
    assert not runner.is_done(record)
    write_json(settings.out / "paper.json", record | {"spent": 39.0})
    assert run_it(one, settings, seconds=3.0)["finished"] is True


def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *wanted: Part, **more: Any) -> tuple[int, dict[str, Any]]:
    monkeypatch.setattr(command, "about_machine", lambda *_: ABOUT)
    status = command.check(Arguments(tmp_path / "out", runs=tmp_path / "runs", **more), list(wanted))
    return status, json.loads((tmp_path / "out" / "gpu-check.json").read_text())


@pytest.mark.subprocess
def test_records_are_joined_and_done_parts_are_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def left_out(name: str) -> Part:
        return Part(name, name, lambda settings: Plan(left_out="no <torch> here"), digests.pytorch)

    def dies(name: str) -> Part:
        return part(name, program(tmp_path, "dies", 'sys.exit("some reason")'))

    wanted = part("kernels", writes(tmp_path, "good")), left_out("pytorch"), dies("memory")
    status, joined = checked(monkeypatch, tmp_path, *wanted)
    assert status == 1
    states = {name: record["state"] for name, record in joined["parts"].items()}
    assert states == {"kernels": "done", "pytorch": "left out", "memory": "failed"}
    assert (joined["machine"]["device"], joined["driver"]) == ("H100", "580.1")
    page = (tmp_path / "out" / "gpu-check.html").read_text()
    for words in ("H100", "driver 580.1", "0123456789ab", "no &lt;torch&gt; here", "exit status 1", "part kernels"):
        assert words in page
    assert "| some reason" in capsys.readouterr().out
    # A part that is done is not planned again; without those that failed the status is 0.
    broken = Part("kernels", "", lambda settings: pytest.fail("planned again"), digests.kernels)
    assert checked(monkeypatch, tmp_path, broken, left_out("pytorch"))[0] == 0
    assert "done before" in capsys.readouterr().out


def test_a_call_without_time_begins_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Part("kernels", "", lambda settings: pytest.fail("planned"), digests.kernels)
    status, joined = checked(monkeypatch, tmp_path, broken, minutes=0.1)
    assert (status, joined["parts"]) == (0, {})
    assert "give the command again" in capsys.readouterr().out


def test_arguments_and_records_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--only speed: there are kernels, step"):
        command.wished(Arguments(tmp_path, only=("speed",)))
    with pytest.raises(UserError, match="--minutes nan: it must be more than 0"):
        command.wished(Arguments(tmp_path, minutes=float("nan")))
    assert [one.name for one in command.wished(Arguments(tmp_path, only=("paper", "step")))] == ["step", "paper"]
    (tmp_path / "step.json").write_text("[]")
    with pytest.raises(UserError, match="not a record of the part step"):
        runner.read_record(tmp_path, "step")


def test_a_machine_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def found(words: Any, *_: Any) -> runner.Ended:
        write_json(Path(words[-1]), {"machine": {"platform": "cpu"}})
        return runner.Ended(0, True, 1.0, "")

    monkeypatch.setattr(command, "run_command", found)
    with pytest.raises(UserError, match=r"JAX finds no GPU here.*--rehearse"):
        command.about_machine(tmp_path, {}, rehearse=False)
    assert command.about_machine(tmp_path, {}, rehearse=True)["rehearsal"] is True


@pytest.mark.parametrize("rehearse", [False, True])
def test_every_command_can_be_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rehearse: bool) -> None:
    """The programs' own parsers and checks take the words of every plan; nothing is run."""
    monkeypatch.setattr(parts, "require_torch", lambda *_: "python")
    corpora = (material.make_corpora(tmp_path / "corpus"),)
    plans = {one.name: one.plan(Settings(tmp_path, tmp_path / "runs", corpora, tmp_path, rehearse)) for one in PARTS}
    cases = [case for plan in plans.values() for case in plan.cases]
    assert all(plan.cases and not plan.left_out for plan in plans.values())
    presets = set()
    for case in cases:
        module, *words = case.words
        if module == "experiments.benchmark":
            arguments = parse(benchmark.Arguments, "cmgan benchmark", words)
            presets.add(arguments.preset)
            assert benchmark.sizes(arguments)
            assert arguments.json == case.result
        elif module == "cmgan_jax":
            trained = train.parse(words[1:])
            presets.add(trained.config.preset)
            check_config(trained.config)
            assert case.stops_well
        elif module == "experiments.gpu_check.kernels":
            tyro.cli(kernels.Arguments, args=words, config=(tyro.conf.FlagCreatePairsOff,))
    assert presets == ({"tiny"} if rehearse else {"paper", "small"})
    assert len({case.result for case in cases if case.result}) == sum(case.result is not None for case in cases)


def test_what_is_lacking_leaves_a_part_out(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    def lacking(*_: str) -> str:
        raise UserError("PyTorch is not installed here")

    monkeypatch.setattr(parts, "require_torch", lacking)
    assert parts.plan_pytorch(settings).left_out == "PyTorch is not installed here"
    for plan in (parts.plan_small, parts.plan_train_small, parts.plan_paper):
        assert "--corpora" in plan(settings).left_out
    assert parts.with_flags(("a", "--b", "1"), {"--b": "2", "--c": "3"}) == ("a", "--b", "2", "--c", "3")


def row(side: str, program: str, milliseconds: float, batch: int = 4) -> dict[str, Any]:
    figures = {"milliseconds": milliseconds, "crops_per_second": 1e3 * batch / milliseconds}
    timing = {"samples": [1e-3 * milliseconds] * 3}
    names = {"side": side, "program": program, "title": program, "precision": "bf16", "batch": batch}
    return names | figures | {"timing": timing}


STEPS = {
    "rows": [row("jax", "constant", 40.0), row("jax", "step", 42.0)],
    "hidden": [{"side": "jax", "precision": "bf16", "batch": 4, "ratio": 1.05}],
    "pesq": {"one_ms": 25.0},
    "machine": {"device": "NVIDIA H100", "platform": "gpu"},
    "arguments": {"preset": "paper", "recipe": "recommended"},
}


def test_goals_are_judged(tmp_path: Path) -> None:
    (goal,) = digests.step(tmp_path, {"batch-4": STEPS}).goals
    assert (goal.found, goal.met) == ("1.050", False)
    rows = [row("jax", "generator", 40.0), row("torch eager", "generator", 80.0)]
    found = {"eager": {"rows": rows, "gone": []}}
    found["compiled"] = {"rows": [rows[0], row("torch compiled", "generator", 80.0)], "gone": ["one is gone"]}
    digest = digests.pytorch(tmp_path, found)
    # 80 over 40, beside a goal of 3 and one of 1.5.
    assert [(goal.found, goal.met) for goal in digest.goals] == [("2.00 times", False), ("2.00 times", True)]
    assert digest.words == ("one is gone",)
    layers = [
        {"layer": "gate", "precision": p, "error": e, "allowed": 1e-5} for p, e in (("fp32", 2e-5), ("bf16", 0.0))
    ]
    assert [goal.met for goal in digests.kernels(tmp_path, {"layers": {"layers": layers}}).goals] == [False, True]
    assert not digests.kernels(tmp_path, {"layers": {"layers": [layers[0] | {"error": float("nan")}]}}).goals[0].met
    suite = tmp_path / "parity.xml"
    suite.write_text('<testsuites><testsuite tests="5" skipped="1" failures="1" errors="0"/></testsuites>')
    (goal,) = digests.kernels(tmp_path, {"parity": suite}).goals
    assert (goal.found, goal.met) == ("3 passed, 1 skipped, 1 failed", False)


def test_what_limits_a_training_is_named(tmp_path: Path) -> None:
    folder = tmp_path / digests.SMALL_SPEED
    folder.mkdir()
    for data, pesq, words in ((5.0, 1.0, "the device"), (20.0, 30.0, "PESQ"), (30.0, 20.0, "data")):
        first = {"kind": "step", "step": 1, "step_ms": 9e4, "data_wait_ms": 9e4, "score_wait_ms": 0.0}
        second = {"kind": "step", "step": 2, "step_ms": 100.0, "data_wait_ms": data, "score_wait_ms": pesq}
        lines = [json.dumps(record | {"crops_per_second": 40.0}) for record in (first, second)]
        (folder / "metrics.jsonl").write_text("\n".join(lines))
        assert words in digests.small(tmp_path, {}).words[0]


def joined_record(folder: Path, date: str, **more: Any) -> None:
    folder.mkdir(parents=True)
    goal = {"name": "step | PESQ", "found": "1.050", "wanted": "under 1.02", "met": False}
    digest = {"goals": [goal], "figures": [{"name": "whole step", "value": 42.0, "unit": "ms"}]}
    step = {"state": "done", "digest": digest, "found": {"batch-4": STEPS}}
    left = {"state": "left out", "why": "no torch"}
    record = {"date": date, **ABOUT, "parts": {"step": step, "pytorch": left}} | more
    (folder / "gpu-check.json").write_text(json.dumps(record))


def test_predictions_and_documents_take_the_newest_record(tmp_path: Path) -> None:
    records = tmp_path / "results" / "gpu"
    assert scaling.recorded(records) is scaling.KNOWN
    assert docs.section(newest_record(records)).startswith("No check on a GPU was run")
    # By the date in the record, and not by the name or by when it was written.
    joined_record(records / "a-new", "2026-05-01T10:00:00+00:00")
    joined_record(records / "z-old", "2026-04-01T10:00:00+00:00")
    joined_record(records / "b-rehearsal", "2026-06-01T10:00:00+00:00", rehearsal=True)
    joined_record(records / "c-without-steps", "2026-05-02T10:00:00+00:00", parts={"memory": {"state": "failed"}})
    (records / "damaged").mkdir()
    (records / "damaged" / "gpu-check.json").write_text("{")
    path, cases = newest_steps(records) or pytest.fail("none")
    assert (path.parent.name, len(cases)) == ("a-new", 1)
    one = scaling.recorded(records)
    assert (one.batch, one.step, one.pesq) == (4, 0.04, 0.025)
    assert "NVIDIA H100, batch 4, bf16: results/gpu/a-new/gpu-check.json" in one.source
    section = docs.section(newest_steps_record(records))
    assert "H100, 16 cores, driver 580.1, jax 0.11, revision `0123456789ab`, 2026-05-01" in section
    assert "| step | step / PESQ | 1.050 | under 1.02 (missed) |" in section
    assert "| step | whole step | 42 ms |  |" in section
    assert section.endswith("Without a result: `pytorch` was left out.")


def newest_steps_record(records: Path) -> tuple[Path, dict[str, Any]]:
    path = records / "a-new" / "gpu-check.json"
    return path, json.loads(path.read_text())


def test_documents_hold_the_newest_record() -> None:
    """`python -m experiments.gpu_check.docs` renews them."""
    text = docs.PAGE.read_text()
    assert docs.with_section(text, docs.section(newest_record())) == text
    with pytest.raises(UserError, match="the page lacks"):
        docs.with_section("no comments", "")


def test_wheels_bring_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed, extra = wheels.requirements()
    assert {"pesq", "grain", "soundfile", "tyro", "optax"} <= {wheels.name_of(one) for one in needed}
    assert [wheels.name_of(one) for one in extra] == ["jax-triton", "triton"]
    assert wheels.missing(["numpy>=2", "no-such-package-of-ours>=1,<2"]) == ["no-such-package-of-ours>=1,<2"]
    with pytest.raises(UserError, match="no such folder"):
        wheels.prepare(["--wheels", str(tmp_path / "absent")])
    asked: list[list[str]] = []

    def install(packages: list[str], folder: Path) -> str:
        asked.append(packages)
        return "no matching distribution" if "triton" in packages[0] else ""

    monkeypatch.setattr(wheels, "missing", lambda wanted: [one for one in wanted if wheels.name_of(one) in LACKING])
    monkeypatch.setattr(wheels, "install", install)
    # Kernels are done without; what training needs is not.
    wheels.prepare(["--out", "x", "--wheels", str(tmp_path)])
    assert asked == [["pesq==0.0.4"], [one for one in extra if wheels.name_of(one) == "triton"]]
    monkeypatch.setattr(wheels, "install", lambda *_: "no matching distribution")
    with pytest.raises(UserError, match="could not install pesq from it:\nno matching distribution"):
        wheels.prepare(["--wheels", str(tmp_path)])
    wheels.prepare(["--out", "x"])


LACKING = ("pesq", "triton")


def test_pip_is_kept_from_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pip(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert "--no-index" in words
        assert words[-3:] == ["--find-links", str(tmp_path), "pesq==0.0.4"]
        return subprocess.CompletedProcess(words, 1, "a\nb\nc\n", "d\ne\nf\n")

    monkeypatch.setattr(subprocess, "run", pip)
    assert wheels.install(["pesq==0.0.4"], tmp_path) == "b\nc\nd\ne\nf"


@pytest.mark.timeout(600)
@pytest.mark.subprocess
@pytest.mark.slow
def test_a_rehearsal_comes_to_its_end(tmp_path: Path) -> None:
    """The parts whose programs compile soonest, as a user starts them; the other parts run the same benchmark."""
    out = tmp_path / "record"
    words = [sys.executable, "-m", "experiments.gpu_check", "--out", str(out), "--runs", str(tmp_path / "runs")]
    words += ["--rehearse", "--only", "kernels", "pytorch", "paper"]
    environment = os.environ | {"CMGAN_TORCH_PYTHON": str(tmp_path / "absent")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    joined = json.loads((out / "gpu-check.json").read_text())
    assert {name: record["state"] for name, record in joined["parts"].items()} == {
        "kernels": "done",
        "pytorch": "left out",
        "paper": "done",
    }
    assert joined["rehearsal"] is True
    assert all(goal["met"] for goal in joined["parts"]["kernels"]["digest"]["goals"])
    assert joined["parts"]["paper"]["finished"] is True
    page = (out / "gpu-check.html").read_text()
    assert "its numbers measure nothing" in page
    assert "<svg" in page
