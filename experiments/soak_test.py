"""Watch a long training for resource leaks: `python -m experiments.soak_test --steps 2000`.

Exit status: 0 if memory, open files and processes stayed constant, otherwise 1.
"""

import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from cmgan_jax.cli._cli import run
from cmgan_jax.errors import UserError
from cmgan_jax.runs.records import read_kind
from experiments import kill_test


@dataclass(frozen=True)
class Arguments:
    """Train the tiny preset for many steps, and compare the resources held at the end with those after warm-up."""

    steps: int = 2000
    """Number of training steps."""
    warm: int = 200
    """Step after which nothing should grow."""
    growth: float = 0.02
    """Share by which the resident memory may grow until the end."""
    save_every: str = "100steps"
    """Same as in experiments.train."""
    out: Path = Path("runs/soak-test")
    """Folder for the corpus and the run; deleted first."""


@dataclass(frozen=True)
class Sample:
    """Resources of a process at one moment: resident memory in MiB, open files, threads, processes below it."""

    step: int
    memory: float
    files: int
    threads: int
    processes: int


def sample(process: int, step: int) -> Sample:
    """Read the resources that a process holds, on Linux.

    Raises:
        FileNotFoundError, ProcessLookupError: the process has ended.
    """
    folder = Path("/proc") / str(process)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    # Each thread has its own children; a thread that has just ended has none.
    lists = (_content(thread / "children") for thread in (folder / "task").iterdir())
    children = [child for listed in lists for child in listed.split()]
    files = len(list((folder / "fd").iterdir()))
    return Sample(step, int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"]), len(children))


def _content(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def watch(arguments: Arguments) -> list[Sample]:
    """Train, and sample once a second.

    Raises:
        UserError: the training failed.
    """
    words = kill_test.Arguments(out=arguments.out, epochs=1, steps=arguments.steps, save_every=arguments.save_every)
    kill_test.refuse(words)
    shutil.rmtree(arguments.out, ignore_errors=True)
    kill_test.make_corpus(arguments.out / "corpus")
    out = arguments.out / "run"
    process, samples = kill_test.start(words, out), []
    while process.poll() is None:
        records = read_kind(out, "step")
        try:
            samples.append(sample(process.pid, records[-1]["step"] if records else 0))
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(1.0)
    if status := process.wait():
        raise UserError(f"the training failed with exit status {status}: see {out.with_suffix('.log')}")
    return samples


def finding(samples: list[Sample], arguments: Arguments) -> tuple[list[str], bool]:
    """Compare a tenth of the steps after warm-up with the last tenth: the median of memory, the minimum of the rest.

    The minimum is what is held at rest: a save's threads linger for a while, so their number at a moment depends on the
    pace. The last tenth ends before the validation, which runs other programs.

    Returns:
        A line for each resource, and whether none of them grew.
    """
    span = (arguments.steps - arguments.warm) / 10
    first = [s for s in samples if arguments.warm <= s.step < arguments.warm + span]
    last = [s for s in samples if arguments.steps - span <= s.step < arguments.steps]
    if not arguments.growth >= 0:
        raise UserError(f"--growth {arguments.growth}: it must be 0 or more")
    lines, holds = [], True
    for name, unit in (("memory", " MiB"), ("files", ""), ("threads", ""), ("processes", "")):
        typical = statistics.median if name == "memory" else min
        before, after = (typical(getattr(s, name) for s in part) for part in (first, last))
        fits = after <= before * (1 + arguments.growth) if name == "memory" else after == before
        holds &= fits
        change = f"{after / before - 1:+.2%}" if before else "none before"
        lines.append(f"{name}: {before:g}{unit} -> {after:g}{unit} ({change}){'' if fits else '  GREW'}")
    return lines, holds


def main() -> int:
    """Parse arguments, train and watch, and print the findings."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.soak_test")
    if not 0 < arguments.warm < arguments.steps - 10:
        raise UserError(f"--warm {arguments.warm}: it must be above 0 and well below --steps ({arguments.steps})")
    if not arguments.growth >= 0:
        raise UserError(f"--growth {arguments.growth}: it must be 0 or more")
    lines, holds = finding(watch(arguments), arguments)
    print("\n".join([f"step {arguments.warm} -> step {arguments.steps}, in a tenth of the steps each", *lines]))
    return 0 if holds else 1


if __name__ == "__main__":
    run(main)
