"""Kill trainings, resume them, and compare with an unbroken one: `python -m experiments.kill_test --kills 50`.

Exit status: 0 if every resumed run ended with the parameters, records and data order of the unbroken one, otherwise 1.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp
import tyro
from rich.console import Console
from rich.table import Table

from cmgan_jax.cli._cli import run
from cmgan_jax.config_check import check
from cmgan_jax.data import audio
from cmgan_jax.data.prepare.synthetic_noise import make_noise
from cmgan_jax.data.prepare.synthetic_speech import make_speakers, synthesise
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs.folder import ABOUT, LATEST, Checkpoint, steps_in
from cmgan_jax.runs.records import METRICS, read_kind
from cmgan_jax.system.outputs import refuse_folder
from cmgan_jax.training.checkpoint import UNFINISHED, read_run

Moment = Literal["at any time", "in a step", "in a save"]
MOMENTS: tuple[Moment, ...] = ("at any time", "in a step", "in a save", "in a save")
TIMING = ("_ms", "crops_per_second")
"""Suffixes of record names that differ between any two runs."""
_OWN = re.compile(r"corpus|(unbroken|run\d*)(\.log)?")
"""Files that a run of this program, or of the soak test, leaves behind."""
PATIENCE = 600.0
"""Seconds after which a training that neither ends nor reaches the chosen moment counts as hung."""


@dataclass(frozen=True)
class Arguments:
    """Kill trainings of the tiny preset at random moments, resume them, and compare them with an unbroken one."""

    kills: int = 50
    """Number of times a training is killed (SIGKILL)."""
    out: Path = Path("runs/kill-test")
    """Folder for the corpus and the runs; deleted first."""
    seed: int = 0
    """Seed of the draws of moments."""
    epochs: int = 2
    """Epochs per run."""
    steps: int = 12
    """Steps per epoch."""
    save_every: str = "3steps"
    """Same as in experiments.train."""
    kills_a_run: int = 5
    """Number of kills after which a run is left to finish, and compared."""


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        number: number of the run, counted from 1.
        moment: the phase in which the kill was intended.
        reached: last step in the records; 0 without records.
        saving: whether a checkpoint was being written.
        kept: step of the newest checkpoint; None without a checkpoint.
        fault: what went wrong on resuming; empty if nothing.
    """

    number: int
    moment: Moment
    reached: int
    saving: bool
    kept: int | None
    fault: str = ""


def refuse(arguments: Arguments) -> None:
    """Check the arguments, and that nothing would be deleted that this program did not make.

    Raises:
        UserError: a check fails; the message has the remedy.
    """
    for name in ("kills", "epochs", "steps", "kills_a_run"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: it must be 1 or more")
    numbers = {"epochs": arguments.epochs, "steps_per_epoch": arguments.steps, "save_every": arguments.save_every}
    check(override(make_config("recommended", "tiny"), numbers))
    refuse_folder("--out", arguments.out)
    if arguments.out.exists():
        names = {path.name for path in arguments.out.iterdir()}
        if strange := sorted(name for name in names if not _OWN.fullmatch(name)):
            raise UserError(
                f"--out {arguments.out}: it would be deleted, and holds what is not of this program "
                f"({', '.join(strange[:3])}); choose another"
            )


def make_corpus(folder: Path) -> None:
    """Make eight pairs of four synthesised speakers, in the layout of VoiceBank+DEMAND."""
    for i, speaker in enumerate(make_speakers(4)):
        for take in range(2):
            clean = 0.1 * synthesise(1.0, speaker, seed=10 * i + take)
            noisy = clean + 0.02 * make_noise("pink", 1.0, seed=10 * i + take)[: clean.size]
            for kind, wave in (("clean", clean), ("noisy", noisy)):
                audio.write(folder / "train" / kind / f"p{i + 1}_{take:03d}.wav", wave, 16_000)


def command(arguments: Arguments, out: Path, resume: bool) -> list[str]:
    """Build the command that starts or resumes a training."""
    words = [sys.executable, "-m", "experiments.train", "--out", str(out), "--devices", "1"]
    if resume:
        return [*words, "--resume"]
    numbers = {"epochs": arguments.epochs, "steps-per-epoch": arguments.steps, "save-every": arguments.save_every}
    flags = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    return [*words, "--data", str(arguments.out / "corpus"), "--preset", "tiny", *flags]


def start(arguments: Arguments, out: Path) -> subprocess.Popen[str]:
    """Start a training, or resume the one in the folder; its output goes to a file beside it."""
    with out.with_suffix(".log").open("a") as log:
        words = command(arguments, out, resume=(out / ABOUT).exists())
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, text=True)


def finish(arguments: Arguments, out: Path) -> str:
    """Let a training finish; return what went wrong, or nothing."""
    process = start(arguments, out)
    try:
        status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"hung for {PATIENCE:.0f} s"
    return f"exit status {status}, see {out.with_suffix('.log')}" if status else ""


def kill_once(arguments: Arguments, out: Path, number: int, draw: random.Random, start_seconds: float) -> Kill:
    """Start or resume a training, and kill it at a random moment."""
    moment = draw.choice(MOMENTS)
    kept = steps_in(out / LATEST)
    target = min((kept[-1] if kept else 0) + draw.randint(1, arguments.steps), arguments.epochs * arguments.steps - 1)
    # A resumed training replaces its records; until then they are those of the previous process.
    old = _records(out)
    process = start(arguments, out)
    fault = ""

    def come() -> bool:
        there = _records(out) != old and _reached(out) >= target
        return there and (moment == "in a step" or _saving(out))

    if moment == "at any time":
        time.sleep(draw.uniform(0.0, 1.5 * start_seconds))
    else:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and not come():
            if time.monotonic() > deadline:
                fault = f"hung for {PATIENCE:.0f} s"
                break
            time.sleep(0.01)
        # A save of this size takes about a second.
        time.sleep(draw.uniform(0.0, 1.0 if moment == "in a save" else 0.3))
    process.send_signal(signal.SIGKILL)
    if (status := process.wait()) not in (-signal.SIGKILL, 0):
        fault = f"exit status {status}, see {out.with_suffix('.log')}"
    steps = steps_in(out / LATEST)
    saving = _records(out) != old and _saving(out)
    return Kill(number, moment, _reached(out), saving, steps[-1] if steps else None, fault)


def _records(out: Path) -> int | None:
    """Identify the file metrics.jsonl by its inode, not by its content."""
    path = out / METRICS
    return path.stat().st_ino if path.exists() else None


def _reached(out: Path) -> int:
    return max((record["step"] for record in read_kind(out, "step")), default=0)


def _saving(out: Path) -> bool:
    folder = out / LATEST
    return folder.is_dir() and any(UNFINISHED in name for name in os.listdir(folder))


def differences(one: Path, other: Path) -> list[str]:
    """Compare two finished runs: records, both networks with their optimisers, and position in the data."""
    found = []
    records = [without_timing(read_kind(folder)) for folder in (one, other)]
    if records[0] != records[1]:
        steps = [
            {record["step"] for record in mine if record not in theirs} for mine, theirs in (records, records[::-1])
        ]
        found.append(f"metrics.jsonl at steps {sorted(steps[0] | steps[1])}")
    last = [Checkpoint(folder, LATEST, steps_in(folder / LATEST)[-1]) for folder in (one, other)]
    leaves = [jax.tree.leaves_with_path(_arrays(checkpoint)) for checkpoint in last]
    for (path, mine), (_, theirs) in zip(*leaves, strict=True):
        if not np.array_equal(mine, theirs):
            found.append(f"{jax.tree_util.keystr(path)} differs")
    positions = [without_timing(read_run(checkpoint)["position"]) for checkpoint in last]
    return found + [f"position: {name}" for name in positions[0] if positions[0][name] != positions[1][name]]


def without_timing(value: Any) -> Any:
    """Remove from records what depends on the clock, including findings on waits, and process events."""
    if isinstance(value, dict):
        return {name: without_timing(inner) for name, inner in value.items() if not name.endswith(TIMING)}
    if isinstance(value, list):
        return [without_timing(inner) for inner in value if not _is_of_the_process(inner)]
    return value


def _is_of_the_process(record: Any) -> bool:
    return isinstance(record, dict) and (record.get("kind") == "event" or str(record.get("code", "")).endswith("_wait"))


def _arrays(checkpoint: Checkpoint) -> Any:
    with ocp.PyTreeCheckpointer() as reader:
        return reader.restore(Path(str(checkpoint)).resolve() / "state")


def kill_and_resume(arguments: Arguments, console: Console) -> tuple[list[Kill], list[str]]:
    """Kill, resume and compare.

    Returns:
        The kills, and a line for every fault and difference.
    """
    refuse(arguments)
    shutil.rmtree(arguments.out, ignore_errors=True)
    make_corpus(arguments.out / "corpus")
    whole = arguments.out / "unbroken"
    began = time.monotonic()
    if fault := finish(arguments, whole):
        raise UserError(f"the unbroken run failed: {fault}")
    seconds = time.monotonic() - began
    console.print(f"unbroken run: {seconds:.1f} s")
    draw, kills, faults, number = random.Random(arguments.seed), [], [], 0
    while len(kills) < arguments.kills:
        number += 1
        out = arguments.out / f"run{number}"
        for _ in range(min(arguments.kills_a_run, arguments.kills - len(kills))):
            kills.append(kill_once(arguments, out, number, draw, seconds))
            console.print(f"kill {len(kills)}: {json.dumps(vars(kills[-1]))}")
            if kills[-1].fault:
                faults.append(f"{out}: {kills[-1].fault}")
        fault = finish(arguments, out)
        found = [fault] if fault else differences(whole, out)
        faults += [f"{out}: {line}" for line in found]
        console.print(f"run {number}: {'; '.join(found) or 'bit for bit as the unbroken one'}")
    return kills, faults


def table(kills: list[Kill]) -> Table:
    """Make a table of the kills by intended moment, and what they cost."""
    shown = Table("aimed", "kills", "while saving", "before the first save", "most steps lost")
    for moment in dict.fromkeys(MOMENTS):
        these = [kill for kill in kills if kill.moment == moment]
        lost = [kill.reached - (kill.kept or 0) for kill in these]
        numbers = [
            len(these),
            sum(k.saving for k in these),
            sum(k.kept is None for k in these),
            max(lost, default=0),
        ]
        shown.add_row(moment, *map(str, numbers))
    return shown


def main() -> int:
    """Parse arguments, kill and resume runs, and print the results."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.kill_test")
    console = Console(highlight=False, soft_wrap=True)
    kills, faults = kill_and_resume(arguments, console)
    console.print(table(kills))
    for fault in faults:
        console.print(fault, markup=False)
    console.print(f"{len(kills)} kills, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    run(main)
