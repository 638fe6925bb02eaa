"""Communication between devices: bytes from a compiled program's text, time from a profile."""

import gzip
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<shapes>.+?) "
    r"(?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.-]+) .*\{$")
_CALLED = re.compile(r"\b(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


@dataclass(frozen=True)
class Collective:
    """One collective operation of a compiled program.

    Attributes:
        name: name of the instruction, as in a profile.
        kind: `all-reduce`, `all-gather`, …
        bytes: size of its result on one device, per execution.
        runs: executions per run of the program: one for each iteration of the enclosing loops.
    """

    name: str
    kind: str
    bytes: int
    runs: int = 1


def collectives(program: str) -> tuple[Collective, ...]:
    """Return every collective in an optimised HLO program's text; a loop of unknown length counts as one iteration."""
    found: list[tuple[str, re.Match[str]]] = []
    # Which computations call which, and how often.
    callers: dict[str, tuple[str, int]] = {}
    here = ""
    for line in program.splitlines():
        if head := _COMPUTATION.match(line):
            here = head["name"]
        elif exchange := _INSTRUCTION.match(line):
            found.append((here, exchange))
        else:
            trips = _TRIPS.search(line)
            called = _CALLED.findall(line) + [name for names in _BRANCHES.findall(line) for name in names.split(", ")]
            callers |= {name.lstrip("%"): (here, int(trips[1]) if trips else 1) for name in called}

    def rounds(computation: str) -> int:
        if computation not in callers:
            return 1
        caller, times = callers[computation]
        return times * rounds(caller)

    return tuple(Collective(m["name"], m["kind"], _bytes(m["shapes"]), rounds(where)) for where, m in found)


def _bytes(shapes: str) -> int:
    total = 0
    for kind, bits, sizes in _SHAPE.findall(shapes):
        elements = math.prod(int(size) for size in sizes.split(",") if size)
        total += elements * (1 if kind == "pred" else max(int(bits) // 8, 1))
    return total


def read_trace(folder: Path) -> list[dict[str, Any]]:
    """Read the events with a duration from the newest Perfetto trace that a profiler left in a folder."""
    newest = max(folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
    with gzip.open(newest, "rt") as file:
        events = json.load(file)["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


def seconds_in(events: Iterable[dict[str, Any]], names: set[str]) -> float:
    """Sum the seconds that all devices spend in instructions of these names, including waiting for one another."""
    return 1e-6 * sum(event["dur"] for event in events if event.get("args", {}).get("hlo_op") in names)
