"""Reading of a run's records, `metrics.jsonl`: complete lines, each step and epoch once, in order.

Earlier versions trained on PESQ only, and named values after it. These are mapped to the present names.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"

OLD_NAMES = {"pesq": "score", "pesq_wait_ms": "score_wait_ms", "clean_verdict": "clean_score"}
"""Names of values of training steps in earlier versions, with the present ones."""
_OLD_KINDS = {"verdict": "finding"}
_OLD_SCORES = {"pesq_targets": "score_targets", "pesq_partial": "score_partial"}


def read(folder: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Read the records of a run folder, even while the run is writing them.

    Returns:
        The records, and notes on what was left out; both are empty if there is no file.
    """
    path = folder / METRICS
    if not path.is_file():
        return [], ()
    parsed = [parse(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    records = [record for record in parsed if record is not None]
    once, notes = in_order(records), []
    if torn := len(parsed) - len(records):
        notes.append(f"{torn} torn line{'s' * (torn > 1)} of {METRICS} left out")
    if twice := len(records) - len(once):
        notes.append(f"{twice} record{'s' * (twice > 1)} of {METRICS} written twice: the later ones count")
    return once, tuple(notes)


def in_order(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sort records by step; of several records for the same epoch or step, only the last is kept.

    Args:
        records: records as written, possibly by an earlier version; a resumed run may have written some again.

    Returns:
        Copies with the present names.
    """
    kept: dict[Any, dict[str, Any]] = {}
    for number, record in enumerate(records):
        kind, step = record.get("kind"), record.get("step")
        place = record.get("epoch", step) if kind == "epoch" else step
        # There may be several findings at one step.
        kept[(kind, place) if kind in ("step", "epoch") and place is not None else number] = upgraded(record)
    return sorted(kept.values(), key=lambda record: _number(record.get("step")))


def upgraded(record: Mapping[str, Any]) -> dict[str, Any]:
    """Map the names in a record to the present ones; `pesq` of a validation is kept in addition to `score`."""
    record = dict(record)
    if isinstance(kind := record.get("kind"), str):
        record["kind"] = _OLD_KINDS.get(kind, kind)
    if kind == "step":
        return renamed(record)
    for name, upgrade in (("train", renamed), ("validation", with_score), ("noisy", with_score)):
        if isinstance(record.get(name), dict):
            record[name] = upgrade(record[name])
    return record


def renamed(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Map the names of training steps' values to the present ones."""
    return {name if (new := OLD_NAMES.get(name)) is None or new in numbers else new: of for name, of in numbers.items()}


def with_score(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Map the names of a validation's values to the present ones; `score` is PESQ in earlier versions."""
    if "score" in numbers:
        return dict(numbers)
    today = {_OLD_SCORES.get(name, name): value for name, value in numbers.items()}
    return today | ({"score": numbers["pesq"]} if "pesq" in numbers else {})


def epochs_of(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of all epochs up to the last recorded one; the record of a missing epoch has only its number."""
    found = [record for record in in_order(records) if record.get("kind") == "epoch"]
    by_number = {int(record.get("epoch", place)): record for place, record in enumerate(found, 1)}
    return [by_number.get(number, {"epoch": number}) for number in range(1, max(by_number, default=0) + 1)]


def is_scored(record: Mapping[str, Any]) -> bool:
    """Whether an epoch's score is a mean over all held-out files that can be scored at all.

    Otherwise its mean cannot be compared with that of other epochs.

    Args:
        record: record of kind `epoch`. Files whose noisy versions cannot be scored do not count as missing.
    """
    validation, noisy = (with_score(record.get(name) or {}) for name in ("validation", "noisy"))
    if not math.isfinite(_number(validation.get("score"), math.nan)):
        return False
    if isinstance(whole := validation.get("complete"), bool):
        return whole
    scored, files, possible = (
        _number(of) for of in (validation.get("scored"), validation.get("files"), noisy.get("scored"))
    )
    expected = min(files, possible) if possible > 0 else files
    return not scored < expected


def unscored_in_words(record: Mapping[str, Any]) -> str:
    """Explain why an epoch has no score: numbers of files without a score by reason, or a lost record."""
    validation = record.get("validation") or {}
    if not validation:
        return "its record is lost"
    reasons: dict[str, int] = {}
    for reason in (validation.get("unscored") or {}).values():
        reasons[str(reason)] = reasons.get(str(reason), 0) + 1
    counted = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    files = validation.get("files")
    share = f"{validation.get('scored', 0)} of {files} files scored" if files else "no score"
    return share + (f": {counted}" if counted else "")


def join_ranges(numbers: Iterable[int]) -> str:
    """Format whole numbers with consecutive ones joined, such as `3, 5 to 8`."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{of[0]}" if len(of) == 1 else f"{of[0]} to {of[-1]}" for of in spans)


def read_kind(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Read all complete records of a run, without removing duplicates.

    Args:
        folder: the run folder.
        kind: kind of the records; None: any kind.

    Returns:
        The records in the order of writing; none if there is no file.
    """
    path = folder / METRICS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    records = [record for line in lines if (record := parse(line)) is not None and not math.isnan(step_of(record))]
    return [record for record in records if kind in (None, record["kind"])]


def parse(line: str) -> dict[str, Any] | None:
    """Parse a line into a record with the present names; None if the line is damaged (power loss, full disk)."""
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError:
        return None
    return upgraded(record) if isinstance(record, dict) else None


def step_of(record: Mapping[str, Any]) -> float:
    """Step of a record; NaN if it has no step or no kind."""
    return _number(record.get("step"), math.nan) if isinstance(record.get("kind"), str) else math.nan


def _number(value: Any, otherwise: float = -1.0) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
