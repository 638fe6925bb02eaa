"""What devices send one another: bytes from a compiled program's text, time from a profile."""

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
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


@dataclass(frozen=True)
class Collective:
    """One exchange of a compiled program.

    Attributes:
        name: of the instruction, as a profile has it.
        kind: `all-reduce`, `all-gather`, …
        bytes: of its result on one device.
    """

    name: str
    kind: str
    bytes: int


def collectives(program: str) -> tuple[Collective, ...]:
    """Every exchange in an optimised HLO program's text; one in a loop counts once."""
    matches = (_INSTRUCTION.match(line) for line in program.splitlines())
    return tuple(Collective(m["name"], m["kind"], _bytes(m["shapes"])) for m in matches if m)


def _bytes(shapes: str) -> int:
    total = 0
    for kind, bits, sizes in _SHAPE.findall(shapes):
        elements = math.prod(int(size) for size in sizes.split(",") if size)
        total += elements * (1 if kind == "pred" else max(int(bits) // 8, 1))
    return total


def read_trace(folder: Path) -> list[dict[str, Any]]:
    """Events with a duration from the newest Perfetto trace that a profiler left in a folder."""
    newest = max(folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
    with gzip.open(newest, "rt") as file:
        events = json.load(file)["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


def seconds_in(events: Iterable[dict[str, Any]], names: set[str]) -> float:
    """Seconds of all devices together in instructions of these names, waiting for one another included."""
    return 1e-6 * sum(event["dur"] for event in events if event.get("args", {}).get("hlo_op") in names)
