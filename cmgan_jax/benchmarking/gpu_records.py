"""Records of checks on a GPU (`python -m experiments.gpu_check`): the newest one of a checkout."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parents[2] / "results" / "gpu"
"""Folders with a record each; a checkout has them, an installed package does not."""
JOINED = "gpu-check.json"
"""The file of a check that holds all of its parts."""


def find_records(folder: Path = RECORDS) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every record of a GPU, the newest first by the date that it has; rehearsals and damaged files are none."""
    found = []
    for path in folder.glob(f"*/{JOINED}"):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["machine"]["platform"] == "gpu" and not record["rehearsal"] and record["parts"]:
                found.append((str(record["date"]), path, record))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    yield from ((path, record) for _, path, record in sorted(found, key=lambda one: one[:2], reverse=True))


def newest_record(folder: Path = RECORDS) -> tuple[Path, dict[str, Any]] | None:
    """The newest record of a GPU; None: nothing was run on one."""
    return next(find_records(folder), None)


def newest_steps(folder: Path = RECORDS) -> tuple[Path, list[dict[str, Any]]] | None:
    """What the newest record that has timed steps found, as `cmgan benchmark` writes it; None: there is none."""
    for path, record in find_records(folder):
        cases = list(record["parts"].get("step", {}).get("found", {}).values())
        if cases:
            return path, cases
    return None
