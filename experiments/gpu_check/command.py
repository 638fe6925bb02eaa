"""The command: chooses parts, shares the time among them, and joins their records in one JSON file and one page."""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro

from cmgan_jax.benchmarking.gpu_records import JOINED
from cmgan_jax.errors import UserError
from cmgan_jax.system.outputs import refuse_folder, write_json, write_text
from experiments.gpu_check import material
from experiments.gpu_check.page import page
from experiments.gpu_check.parts import NAMES, PARTS, Part, Settings
from experiments.gpu_check.runner import is_done, read_record, run_command, run_part

LIMIT = 480.0
"""Seconds that a part may take."""
LEAST = 30.0
"""Seconds without which no part is begun."""
ABOUT_SECONDS = 120.0
"""Seconds in which the device must have told its name."""
REHEARSAL = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=1",
}
"""Environment of a rehearsal: a CPU, and programs that compile fast."""


@dataclass(frozen=True)
class Arguments:
    """Measure on one NVIDIA GPU what no other machine can tell; give the command again until all is done.

    Parts: kernels, step, pytorch, memory, small, train-small, paper.
    """

    out: Path
    """Folder of the records: PART.json, gpu-check.json, gpu-check.html."""
    only: tuple[str, ...] = ()
    """Parts to run; none: all."""
    minutes: float = 30.0
    """Time of this call. What it does not suffice for is left to the next."""
    limit: float = LIMIT
    """Seconds that a part may take in a call."""
    corpora: tuple[Path, ...] = ()
    """Folders with speech/ and noise/ to train on."""
    runs: Path | None = None
    """Folder of trainings and logs, which another call goes on with; runs/gpu-check-NAME unless named."""
    reference: Path = Path("../shared/reference")
    """Folder of the published weights and outputs that the tests of parity read."""
    wheels: Path | None = None
    """Folder of wheels from which packages that are missing here are installed; see `__main__.py`."""
    rehearse: bool = False
    """Go through all of it on a CPU at the smallest sizes: what is recorded measures nothing."""


def wished(arguments: Arguments) -> list[Part]:
    """The parts that are to run, in order of worth.

    Raises:
        UserError: there is no such part, or a number cannot work.
    """
    if unknown := [name for name in arguments.only if name not in NAMES]:
        raise UserError(f"--only {' '.join(unknown)}: there are {', '.join(NAMES)}")
    for name in ("minutes", "limit"):
        if not getattr(arguments, name) > 0:
            raise UserError(f"--{name} {getattr(arguments, name)}: it must be more than 0")
    return [part for part in PARTS if not arguments.only or part.name in arguments.only]


def about_machine(runs: Path, environment: dict[str, str], rehearse: bool) -> dict[str, Any]:
    """Card, driver, versions and revision, asked of a process of its own, which gives the device back.

    Raises:
        UserError: JAX finds no GPU.
    """
    file = runs / "about.json"
    file.unlink(missing_ok=True)
    ended = run_command(
        ("experiments.gpu_check.about", "--json", str(file)), runs / "about.log", ABOUT_SECONDS, environment
    )
    if not file.exists():
        raise UserError(f"no device to measure: {ended.tail or f'exit status {ended.status}'}")
    about = json.loads(file.read_text(encoding="utf-8"))
    if about["machine"]["platform"] == "cpu" and not rehearse:
        raise UserError(
            "JAX finds no GPU here: install its plugin (pip install 'jax[cuda13]'), or go through the check with "
            "--rehearse, which measures nothing"
        )
    return about | {"rehearsal": rehearse}


def check(arguments: Arguments, parts: list[Part]) -> int:
    """Run the parts and write what they found.

    Returns:
        0 where every part is done or has a reason to be left out, 1 where one failed.
    """
    began = time.monotonic()
    runs = arguments.runs or Path("runs") / f"gpu-check-{arguments.out.resolve().name}"
    for folder in (arguments.out / "cases", runs):
        folder.mkdir(parents=True, exist_ok=True)
    environment = REHEARSAL if arguments.rehearse else {}
    about = about_machine(runs, environment, arguments.rehearse)
    corpora = arguments.corpora
    if arguments.rehearse and not corpora:
        corpora = (material.make_corpora(runs / "corpus"),)
    settings = Settings(arguments.out, runs, corpora, arguments.reference, arguments.rehearse, environment)
    say(f"{about['machine']['device']}, driver {about['driver'] or 'unknown'}, jax {about['machine']['jax']}")
    for number, part in enumerate(parts, 1):
        left = 60 * arguments.minutes - (time.monotonic() - began)
        head = f"{part.name} ({number} of {len(parts)})"
        before = read_record(arguments.out, part.name)
        if before is not None and is_done(before):
            say(f"{head}: done before, on {before['date']}; to run it again delete {arguments.out / part.name}.json")
            continue
        seconds = min(arguments.limit, left)
        if seconds < min(LEAST, arguments.limit):
            say(f"{head}: not begun, {max(left, 0):.0f} s are left of this call; give the command again")
            continue
        say(f"{head}: {part.title}; at most {seconds / 60:.1f} min, {left / 60:.1f} min are left of this call")
        tell(run_part(part, settings, seconds, say, about))
        join(arguments.out)
    joined = join(arguments.out)
    say(f"all records: {arguments.out / JOINED}; for people: {(arguments.out / JOINED).with_suffix('.html')}")
    failed = [part.name for part in parts if (joined["parts"].get(part.name) or {}).get("state") == "failed"]
    return 1 if failed else 0


def say(line: str) -> None:
    """Print a line with the time."""
    print(f"{datetime.now():%H:%M:%S} {line}", flush=True)


def tell(record: dict[str, Any]) -> None:
    """Print how a part ended and what it found of its goals."""
    state = record["state"] + (": " + record["why"] if record["why"] else "")
    goes_on = "" if record["finished"] or record["state"] != "done" else "; the next call goes on with it"
    say(f"  {state}{goes_on}")
    for note in record.get("notes", ()):
        say(f"  {note}")
    for case in record["cases"].values():
        for line in case.get("tail", "").splitlines():
            print(f"    | {line}")
    for goal in record.get("digest", {}).get("goals", ()):
        say(f"  {'reached' if goal['met'] else 'MISSED'}: {goal['name']}: {goal['found']} (goal: {goal['wanted']})")


def join(out: Path) -> dict[str, Any]:
    """Write all records of a folder as one JSON file and one page.

    Returns:
        What the file holds. Card, driver, versions and revision are those of the newest record.
    """
    records = {name: record for name in NAMES if (record := read_record(out, name)) is not None}
    newest = max(records.values(), key=lambda record: record["date"], default=None)
    joined = {
        "format": 1,
        "date": newest["date"] if newest else datetime.now(UTC).isoformat(timespec="seconds"),
        **(newest["about"] if newest else {}),
        "parts": records,
    }
    write_json(out / JOINED, joined)
    write_text((out / JOINED).with_suffix(".html"), page(joined))
    return joined


def main() -> int:
    """Parse and check."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.gpu_check", config=(tyro.conf.FlagCreatePairsOff,))
    parts = wished(arguments)
    refuse_folder("--out", arguments.out)
    refuse_folder("--runs", arguments.runs)
    for folder in arguments.corpora:
        if not folder.is_dir():
            raise UserError(f"--corpora {folder}: no such folder; name folders with speech/ and noise/")
    return check(arguments, parts)
