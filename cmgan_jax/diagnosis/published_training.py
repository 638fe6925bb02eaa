"""Logs of the published trainer, in one or more files, combined into one history."""

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.diagnosis.history import METRICS, History, Source, columns
from cmgan_jax.diagnosis.published_csv import parse_csv
from cmgan_jax.diagnosis.published_log import Parsed, parse_log
from cmgan_jax.errors import UserError
from cmgan_jax.system.inputs import TooLargeError, gunzip, read_limited

SUFFIXES = (".log", ".txt", ".out", ".err", ".csv", ".gz", "")
"""Suffixes of the files in a folder that are searched for logs."""
_LOSSES = ("generator_loss", "discriminator_loss")
_LARGEST = 64 * 2**20
LARGEST_TEXT = 256 << 20
"""Maximum size of an unpacked log in bytes: ten times that of the longest training published."""
_PESQ = (0.5, 5.0)


def read_history(paths: Sequence[Path]) -> History:
    """Read a run of this project, or logs of the published trainer.

    Args:
        paths: one run folder, or log files and folders of log files, all of one training.

    Raises:
        UserError: there is neither, or it cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; name a run folder, a log, or a folder of logs")
    folders = [path.parent if path.name == METRICS else path for path in paths]
    ours = [folder for folder in folders if folder.is_dir() and (folder / METRICS).is_file()]
    if ours and len(paths) > 1:
        raise UserError(f"{ours[0]} is a run of this project: it is diagnosed alone; name one run, or several logs")
    return History.from_run(ours[0]) if ours else read_logs(paths)


def read_logs(paths: Sequence[Path]) -> History:
    """Read log files and folders of log files as one history.

    Raises:
        UserError: none of them has a line in a known format.
    """
    files = list(dict.fromkeys(file for path in paths for file in _files(path)))
    parsed = {file: found for file in files if (found := parse(read_text(file))).steps or found.epochs}
    if not parsed:
        named = ", ".join(str(path) for path in paths)
        raise UserError(
            f"{named}: no line of a training log is there. Known are a run folder of this project, text logs with "
            "lines such as 'GPU: 0, Epoch 16, Step 1500, loss: 0.109, disc_loss: 0.000004', and CSV logs with the "
            "columns epoch, step, gen_loss, disc_loss or epoch, test_gen_loss, test_pesq"
        )
    return merge(parsed)


def parse(text: str) -> Parsed:
    """Parse a log, CSV or text."""
    return parse_csv(text) or parse_log(text)


def read_text(path: Path) -> str:
    """Read a text file, gzipped or not, in the encoding that its first bytes tell; invalid bytes are replaced.

    Raises:
        UserError: the file is compressed but damaged from its beginning, or larger than any log.
    """
    try:
        content = read_limited(path, LARGEST_TEXT)
        if content.startswith(b"\x1f\x8b"):
            content = gunzip(path, content, LARGEST_TEXT)
    except TooLargeError as error:
        raise UserError(
            f"{path}: it has, or unpacks to, more than {LARGEST_TEXT >> 20} MiB, which no log of a training does; name "
            "a file of the lines that hold losses and scores alone"
        ) from error
    except zlib.error as error:
        raise UserError(f"{path}: a damaged gzip file ({error}); copy it again, or unpack it") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    return content.decode("utf-8-sig", errors="replace")


def merge(parsed: dict[Path, Parsed]) -> History:
    """Combine the records of files that belong to one training."""
    steps = _steps(parsed)
    epochs = _epochs(parsed, steps)
    notes = _notes(parsed, steps, epochs)
    for row in epochs:
        if "validation.pesq" in row:
            # The published trainer has only one target metric.
            row["validation.score"] = row["validation.pesq"] = _plausible(row["validation.pesq"])
    batch = next((found.batch for found in parsed.values() if found.batch), None)
    source = Source(
        kind="log",
        names=tuple(str(path) for path in parsed),
        resolution=max((found.style.resolution for found in parsed.values() if found.steps), default=0.0),
        settings={"batch": batch} if batch else {},
        notes=notes,
    )
    devices = {name: i for i, name in enumerate(sorted({str(row["device"]) for row in steps}))}
    numbered = [row | {"device": devices[str(row["device"])]} for row in steps]
    return History(source, columns(numbered), columns(epochs))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("[!.]*") if file.is_file() and file.suffix.lower() in SUFFIXES)
    return sorted(file for file in found if file.stat().st_size <= _LARGEST)


def _steps(parsed: dict[Path, Parsed]) -> list[dict[str, Any]]:
    """Merge step records in order; a step in both a text log and a CSV log counts once."""
    seen: dict[tuple[Any, ...], Path] = {}
    rows = []
    for path, found in parsed.items():
        for row in found.steps:
            same = (row["epoch"], row.get("step"), *(f"{row.get(name, math.nan):.6f}" for name in _LOSSES))
            if seen.setdefault(same, path) == path:
                rows.append(row)
    return sorted(rows, key=lambda row: (row["epoch"], row.get("step", 0)))


def _epochs(parsed: dict[Path, Parsed], steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge epoch records: one per epoch, with means over devices, CSV logs before text logs."""
    numbers = sorted({row["epoch"] for row in steps} | {row["epoch"] for f in parsed.values() for row in f.epochs})
    merged = []
    for number in numbers:
        rows = [row for found in parsed.values() for row in found.epochs if row["epoch"] == number]
        # Rank 0's summary without a device name repeats what its own line says.
        devices = [row for row in rows if row["device"] != ""] or rows
        merged_row: dict[str, Any] = {"epoch": float(number)}
        for name in dict.fromkeys(name for row in rows for name in row if name not in ("epoch", "device")):
            values = [row[name] for row in devices if name in row] or [row[name] for row in rows if name in row]
            merged_row[name] = float(np.mean(values))
        for name in _LOSSES:
            known = [row[name] for row in steps if row["epoch"] == number and math.isfinite(row.get(name, math.nan))]
            if f"train.{name}" not in merged_row and known:
                merged_row[f"train.{name}"] = float(np.mean(known))
        merged.append(merged_row)
    return merged


def _plausible(pesq: float) -> float:
    """Return PESQ, or NaN for an impossible value: some trainers write 0 if nothing could be scored."""
    return pesq if _PESQ[0] < pesq < _PESQ[1] else math.nan


def _notes(parsed: dict[Path, Parsed], steps: list[dict[str, Any]], epochs: list[dict[str, Any]]) -> tuple[str, ...]:
    notes = []
    if torn := sum(found.torn for found in parsed.values()):
        notes.append(f"{torn} torn line{'s were' if torn > 1 else ' was'} left out")
    for path, found in parsed.items():
        if found.runs > 1:
            notes.append(f"{path} holds {found.runs} trainings one after another; the longest is diagnosed")
    if devices := sorted({str(row["device"]) for row in steps} - {""}):
        notes.append(f"{len(devices)} devices logged steps" if len(devices) > 1 else "one device logged steps")
    if unscored := [row["epoch"] for row in epochs if math.isnan(_plausible(row.get("validation.pesq", 1.0)))]:
        notes.append(f"no PESQ could be computed in {len(unscored)} epochs, the first being {unscored[0]:.0f}")
    return tuple(notes)
