"""Two processes with two devices each, on one machine: equal to one with four, and what happens when one dies."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from quick_programs import QUICK
from recordings import make_pairs

from cmgan_jax.cli._hosts import HOST_GONE
from cmgan_jax.config import Config
from cmgan_jax.data import pipeline
from cmgan_jax.data.corpus import CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs.folder import Checkpoint, steps_in
from cmgan_jax.runs.records import read_kind
from cmgan_jax.training import checkpoint
from cmgan_jax.training.display import Display
from cmgan_jax.training.divergence import Diverged
from cmgan_jax.training.launch import RunOptions, launch
from cmgan_jax.training.parallel import Placement

NUMBERS = {
    "epochs": 1,
    "steps_per_epoch": 10,
    "log_every": 1,
    "generator.blocks": 0,
    "generator.dense_depth": 1,
    "generator.channels": 2,
    "discriminator.channels": 1,
    "targets.inject_failures": 0.3,
    "targets.policy": "mean_fill",
}
CONFIG = override(make_config("recommended", "tiny"), NUMBERS)
TRAIN = ("-m", "experiments.train")
DIVERGE = (
    "-c",
    "from cmgan_jax.training import stepper; stepper.rate_factor = lambda *_: 1e18\n"
    "from cmgan_jax.cli import _cli, train; _cli.run(train.main)",
)
"""A training whose rate no config may have: it sends every parameter to 1e15, and from then on nothing is finite."""
GLOO = r"\[Gloo\] Rank |\d+| is connected to | peer ranks. Expected number of connected peer ranks is : "
"""What gloo itself prints, once for each device; two of its threads at once mix these pieces."""
PATIENCE = 400
"""Seconds for what takes half a minute on two free cores."""

pytestmark = [pytest.mark.subprocess, pytest.mark.timeout(3 * PATIENCE)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pairs of three synthesised speakers."""
    return make_pairs(tmp_path_factory.mktemp("corpus"), 3)


@pytest.fixture(scope="module")
def one(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes together are to be equal to: a run of this one with four devices."""
    out = tmp_path_factory.mktemp("runs") / "one"
    train_alone(CONFIG, folder, out)
    return out


def train_alone(config: Config, folder: Path, out: Path, resume: bool = False) -> int:
    source = {"data": str(folder), "speech": [], "noise": [], "skip_bad": False}
    corpus = open_corpus(CorpusSource(data=folder), config)
    return launch(config, corpus, RunOptions(out, devices=4, resume=resume), Display(), source).step


Start = Callable[..., list["subprocess.Popen[str]"]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts both processes of a run; what is left of them at the end is killed."""
    begun: list[subprocess.Popen[str]] = []

    def both(
        out: Path, *flags: str, data: tuple[Path, Path] | None = None, program: tuple[str, str] = TRAIN
    ) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        common = ["--out", str(out), "--devices", "2", *flags, "--distributed", "--coordinator", f"localhost:{port}"]
        # A resumed run knows its numbers and its corpus.
        if data:
            common += ["--preset", "tiny"]
            common += [word for name, value in NUMBERS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        for index in range(2):
            words = [*common, "--num-processes", "2", "--process-id", str(index)]
            words += ["--data", str(data[index])] if data else []
            begun.append(
                subprocess.Popen(
                    [sys.executable, *program, *words],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "XLA_FLAGS": QUICK, "PYTHONPATH": os.getcwd()},
                )
            )
        return begun[-2:]

    yield both
    for process in begun:
        process.kill()
        process.communicate()


def wait_until(reached: Callable[[], bool], processes: list["subprocess.Popen[str]"]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, "the run does not get on"
        ended = [process.communicate() for process in processes if process.poll() is not None]
        assert not ended, ended
        time.sleep(0.2)


def steps_of(out: Path) -> int:
    return max(record["step"] for record in read_kind(out, "step"))


def parameters(out: Path, step: int) -> dict[str, np.ndarray]:
    state = checkpoint.restore(Checkpoint(out, "latest", step), CONFIG, Placement(jax.devices()[:1]))
    leaves = jax.tree_util.tree_leaves_with_path((state.generator.params, state.discriminator.params))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def children(pid: int) -> set[int]:
    """Processes whose parent is or was this one: the scoring workers."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return {int(word) for word in listed.split()}


def kill(victim: "subprocess.Popen[str]", survivor: "subprocess.Popen[str]") -> None:
    """Kill one; the other ends within a minute, says what to do, and leaves no scoring worker behind."""
    workers = children(survivor.pid)
    assert workers
    victim.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, complaint = survivor.communicate(timeout=60)
    print(f"the other ended {time.monotonic() - killed:.1f} s after")
    assert survivor.returncode == HOST_GONE, complaint
    assert complaint.strip().endswith("the run goes on from its last checkpoint")
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


@pytest.mark.slow
def test_two_processes_are_one_run(folder: Path, one: Path, tmp_path: Path, start: Start):
    """Expected: what one process with four devices comes to, but for rounding; the seeds are the same."""
    two = tmp_path / "two"
    first, second = start(two, data=(folder, folder))
    said, complaint = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, complaint
    assert "best checkpoint:" in said
    silence, complaint = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, complaint
    assert re.sub(GLOO, "", silence).strip() == ""
    expected = parameters(one, 10)
    for name, ours in parameters(two, 10).items():
        np.testing.assert_allclose(ours, expected[name], rtol=0, atol=1e-5, err_msg=name)
    mine, theirs = read_kind(two, "step"), read_kind(one, "step")
    assert [record["step"] for record in mine] == list(range(1, 11))
    # Scores that failed are filled with the mean of those that did not, of both processes.
    assert [record["failures"] for record in mine] == [record["failures"] for record in theirs]
    assert 0 < sum(sum(record["failures"].values()) for record in mine) < 40
    for name in ("score", "target_spread", "generator_loss", "discriminator_loss", "valid_share"):
        np.testing.assert_allclose([r[name] for r in mine], [r[name] for r in theirs], rtol=1e-3)
    # One host goes on where two left.
    assert train_alone(override(CONFIG, {"epochs": 2}), folder, two, resume=True) == 20


@pytest.mark.slow
def test_two_go_on_where_one_left_and_where_one_died(one: Path, tmp_path: Path, start: Start):
    out = tmp_path / "run"
    shutil.copytree(one, out)
    both = start(out, "--resume", "--save-every", "1steps", "--epochs", "1000")
    # Not by the records: a checkpoint is written while the steps go on.
    wait_until(lambda: max(steps_in(out / "latest"), default=0) >= 11, both)
    kill(both[1], both[0])
    reached = steps_in(out / "latest")[-1]
    both = start(out, "--resume")
    wait_until(lambda: steps_of(out) >= reached + 2, both)
    # Either is asked; both leave, after the same step.
    both[1].send_signal(signal.SIGTERM)
    for process in both:
        said, complaint = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128 + signal.SIGTERM, said + complaint
    assert steps_in(out / "latest")[-1] == steps_of(out)


@pytest.mark.slow
def test_the_first_may_die_too(folder: Path, tmp_path: Path, start: Start):
    """Before the first step; the others hear of it at once, since it is the one that tells them."""
    out = tmp_path / "run"
    both = start(out, data=(folder, folder))
    wait_until(lambda: (out / "latest").exists() and bool(children(both[1].pid)), both)
    kill(both[0], both[1])


@pytest.mark.slow
def test_steps_that_are_not_finite_stop_both(folder: Path, tmp_path: Path, start: Start):
    """Each has two rows of the batch; all four are left, as one process would have trained on them."""
    out = tmp_path / "run"
    both = start(out, "--patience", "3", "--save-every", "1steps", data=(folder, folder), program=DIVERGE)
    for process in both:
        _, complaint = process.communicate(timeout=PATIENCE)
        assert process.returncode == Diverged.status, complaint
        assert "Traceback" not in complaint
        assert f"last good checkpoint:  {out / 'latest' / '1'}\n" in complaint
        assert f"batch of step 4:  {out / 'not_finite_4.npz'}  (files " in complaint
    assert checkpoint.newest_whole(out) == (Checkpoint(out, "latest", 1), [])
    assert [path.name for path in out.glob("not_finite*")] == ["not_finite_4.npz"]
    batches = pipeline.training_batches(open_corpus(CorpusSource(data=folder), CONFIG), CONFIG, start_step=3)
    with np.load(out / "not_finite_4.npz") as aside:
        for side, expected in next(batches).items():
            np.testing.assert_array_equal(aside[side], expected)
    batches.close()


@pytest.mark.slow
def test_what_one_cannot_begin_none_begins(folder: Path, tmp_path: Path, start: Start):
    both = start(tmp_path / "run", data=(folder, tmp_path / "nothing"))
    for process in both:
        _, complaint = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert "nothing" in complaint
        assert "Traceback" not in complaint


ALONE = """
from cmgan_jax.cli import _cli, _hosts

_hosts.JOIN_SECONDS, _hosts.TELL_SECONDS = {join}, 1

def main():
    with _hosts.joined(_hosts.Cluster("localhost:{port}", {process}, 2)):
        pass

_cli.run(main)
"""


def wait_alone(process: int, join: int) -> "subprocess.Popen[str]":
    with socket.socket() as free:
        free.bind(("localhost", 0))
        program = ALONE.format(join=join, port=free.getsockname()[1], process=process)
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("process", [0, 1])
def test_one_that_nobody_joins_says_what_it_waits_for_and_what_to_do(process: int):
    alone = wait_alone(process, join=5)
    _, said = alone.communicate(timeout=PATIENCE)
    assert alone.returncode == HOST_GONE
    *waits, end = said.splitlines()
    assert waits
    assert all(line.startswith("waiting for the other processes of this run at localhost:") for line in waits)
    assert end.startswith("--distributed: not all processes have met within 5 s at localhost:")
    assert "--num-processes" in end


def test_one_that_waits_hears_a_signal():
    alone = wait_alone(0, join=PATIENCE)
    assert alone.stderr is not None
    assert alone.stderr.readline().startswith("waiting for")
    alone.send_signal(signal.SIGTERM)
    _, said = alone.communicate(timeout=60)
    assert alone.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "stopped by SIGTERM"
