"""Runs parts: each case in a process of its own within a time limit, and a record of each part as soon as it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cmgan_jax.errors import UserError
from cmgan_jax.system.outputs import remove, write_json
from experiments.gpu_check.parts import Case, Part, Settings

ROOT = Path(__file__).parents[2]
LAST_LINES = 12
"""Lines of a failed command's output that its record keeps."""
GRACE = 30.0
"""Seconds at most that a command has to end, and to save, when its time is over; a fifth of its time at most."""
WHY = "its time was over"
"""Why a case has stopped."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: exit status; negative: the signal that ended it.
        in_time: whether it ended by itself.
        seconds: that it took.
        tail: the last lines of its output.
    """

    status: int
    in_time: bool
    seconds: float
    tail: str


def run_command(words: tuple[str, ...], log: Path, seconds: float, environment: dict[str, str]) -> Ended:
    """Run `python -m words…`; when its time is over ask it to end, then kill it with all that it has started.

    Args:
        words: after `python -m`.
        log: file for its output.
        seconds: it may take, the grace in which it ends included.
        environment: variables beside those of this process.
    """
    began = time.monotonic()
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path} | environment,
            start_new_session=True,
        )
        grace, in_time = min(GRACE, seconds / 5), True
        try:
            process.wait(max(seconds - grace, 0.0))
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            # Also where this program itself is asked to end: a training saves.
            status = _end(process, grace)
    lines = log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
    return Ended(status, in_time, time.monotonic() - began, "\n".join(lines))


def _end(process: subprocess.Popen[bytes], grace: float) -> int:
    """Ask a process to end if it has not, and kill what is left of its group: it may hold the device's memory."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def read_record(out: Path, name: str) -> dict[str, Any] | None:
    """The record of a part; None: there is none.

    Raises:
        UserError: the file holds something else.
    """
    path = out / f"{name}.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.get("part") != name or "state" not in record:
        raise UserError(f"{path}: not a record of the part {name}; move it away, or choose another --out")
    return record


def is_done(record: dict[str, Any] | None) -> bool:
    """Whether nothing of a part is left to do."""
    return record is not None and record["state"] == "done" and record["finished"]


def run_part(
    part: Part, settings: Settings, seconds: float, say: Callable[[str], None], about: dict[str, Any]
) -> dict[str, Any]:
    """Run what a part lacks, and write its record.

    Args:
        part: which one.
        settings: of all parts.
        seconds: it may take.
        say: prints a line.
        about: of this machine and revision, for the record.

    Returns:
        The record: its `state` is `done`, `failed` or `left out`, and `why` says why.
    """
    began = time.monotonic()
    before = read_record(settings.out, part.name) or {}
    spent = float(before.get("spent", 0.0))
    if part.most is not None:
        seconds = min(seconds, max(part.most - spent, 0.0))
    record: dict[str, Any] = {"part": part.name, "title": part.title, "state": "done", "why": "", "finished": True}
    record |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "about": about}
    found: dict[str, Any] = {}
    cases: dict[str, Any] = {}
    try:
        plan = part.plan(settings)
        record["notes"] = list(plan.notes)
        if plan.left_out:
            record |= {"state": "left out", "why": plan.left_out, "finished": False}
        for case in plan.cases:
            left = seconds - (time.monotonic() - began)
            cases[case.name] = _run_case(part, case, settings, left, say, before.get("cases", {}).get(case.name))
            if cases[case.name]["state"] == "done" and case.result is not None:
                found[case.name] = _result_of(case.result)
        failed = [f"{name}: {case['why']}" for name, case in cases.items() if case["state"] == "failed"]
        if failed:
            record |= {"state": "failed", "why": "; ".join(failed)}
        spent += time.monotonic() - began
        if plan.cases:
            digest = part.digest(settings.runs, found).to_dict()
            if part.goes_on:
                record["finished"] = digest["finished"] or (part.most is not None and spent >= part.most - GRACE)
            record["digest"] = digest
    except (UserError, OSError, KeyError, ValueError) as error:
        record |= {"state": "failed", "why": f"{type(error).__name__}: {error}", "finished": False}
    record |= {"spent": spent, "cases": cases, "found": {n: f for n, f in found.items() if isinstance(f, dict)}}
    write_json(settings.out / f"{part.name}.json", record)
    return record


def _result_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else path


def _run_case(
    part: Part, case: Case, settings: Settings, seconds: float, say: Callable[[str], None], before: Any
) -> dict[str, Any]:
    """Run a case whose result is not there yet."""
    if case.result is not None and case.result.exists():
        return before if before and before["state"] == "done" else {"state": "done", "why": "", "words": case.words}
    if seconds < 1.0:
        return {"state": "failed", "why": "no time was left for it", "words": case.words}
    say(f"  {case.name}: python -m {' '.join(case.words)}")
    log = settings.runs / f"{part.name}-{case.name}.log"
    ended = run_command(case.words, log, seconds, settings.environment | case.environment)
    record = {"words": case.words, "status": ended.status, "seconds": ended.seconds, "state": "done", "why": ""}
    saved = case.stops_well and not ended.in_time and ended.status in (128 + signal.SIGTERM, 0)
    if saved:
        return record | {"why": f"{WHY}; everything is saved"}
    missing = case.result is not None and not case.result.exists()
    if ended.status == 0 and ended.in_time and not missing:
        return record
    if case.result is not None:
        remove(case.result)
    why = f"exit status {ended.status}" if ended.in_time else f"{WHY} ({seconds:.0f} s)"
    return record | {"state": "failed", "why": why, "tail": ended.tail}
