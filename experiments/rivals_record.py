"""Records of `experiments.rivals`: the scores of every system on every file of a set, a line each."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmgan_jax.errors import UserError
from cmgan_jax.evaluation.evaluation import NOISY
from cmgan_jax.evaluation.tables import MAIN
from experiments.held_out_set import DESCRIPTION, MIXTURES

OURS = "ours"
"""This system's name in records."""
SPEED = "speed.json"
"""The record of real-time factors, beside those of the sets."""
DIGITS = 6
"""Digits after the point that a record keeps of a score."""
_TIMES = ("audio", "wall", "processor")


def build(name: str, document: Mapping[str, Any], systems: Mapping[str, Mapping[str, Any]], data: Path) -> dict:
    """Make a set's record from what `cmgan evaluate --json` has written.

    Args:
        name: of the set.
        document: the evaluation; the first of the systems is `enhanced` in it, the others have their own names.
        systems: what is known of each, in the order in which they were evaluated.
        data: the set's folder; its table of mixtures tells the input SNRs, otherwise they are measured ones.

    Returns:
        `set`, `about` (what identifies a set that was made), `scale`, `systems`, `snr` (how it is known) and `files`:
        for each `name`, `snr` in dB, `scores` by system and measure (null where there is none), and `reasons`.
    """
    first, *others = systems
    mixed = _mixed(data / MIXTURES)
    files = []
    for row in document["files"]:
        rows = {NOISY: row[NOISY], first: row} | {other: row[other] for other in others}
        entry: dict[str, Any] = {"name": row["name"], "snr": _rounded(mixed.get(row["name"], row["input_snr"]))}
        entry["scores"] = {system: {m: _rounded(of.get(m)) for m in MAIN} for system, of in rows.items()}
        if reasons := {system: of["reasons"] for system, of in rows.items() if of["reasons"]}:
            entry["reasons"] = reasons
        files.append(entry)
    return {
        "set": name,
        "about": json.loads((data / DESCRIPTION).read_text()) if mixed else None,
        "scale": document["scale"],
        "snr": "mixed" if mixed else "measured",
        "systems": {system: _without_times(about) for system, about in systems.items()},
        "files": files,
    }


def _mixed(path: Path) -> dict[str, float]:
    """Input SNRs by name from a set's table of mixtures; nothing where there is none."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {row["name"]: float(row["snr"]) for row in csv.DictReader(file)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _without_times(about: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about.items() if key not in _TIMES}


def speeds(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of what is known of each system, its version and seconds of audio, of time, and of all cores."""
    return {name: {key: about[key] for key in ("version", *_TIMES)} for name, about in systems.items()}


def to_text(record: Mapping[str, Any]) -> str:
    """A record as JSON, a line for each file, so that differences can be read."""
    head = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in record.items() if key != "files"]
    files = [f"  {json.dumps(entry)}" for entry in record["files"]]
    return "\n".join(["{", *head, '"files": [', ",\n".join(files), "]", "}", ""])


def read_all(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Read the records of all sets, by name, and that of real-time factors where there is one.

    Raises:
        UserError: there are none, or one is not a record.
    """
    records, speed = {}, None
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text())
            if path.name == SPEED:
                _ = (
                    [of[key] + 0 for of in content["systems"].values() for key in _TIMES],
                    (content["machine"]["cores"], content["machine"]["processor"], content["set"]),
                )
                speed = content
                continue
            _ = content["snr"], content["about"], [system for system in content["systems"]]
            for entry in content["files"]:
                for system in (NOISY, *content["systems"]):
                    _ = [entry["scores"][system][measure] for measure in MAIN], entry["snr"]
            records[content["set"]] = content
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is no record of rivals ({error!r}); make it with `experiments.rivals run`"
            ) from error
    if not records:
        raise UserError(f"{folder} holds no records; make them with `experiments.rivals run`")
    return records, speed
