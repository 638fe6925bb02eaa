"""CSV logs of trainers derived from the published one.

Columns of step logs: timestamp, epoch, step, gen_loss, disc_loss, lr_gen, lr_disc. Columns of epoch logs: timestamp,
epoch, train_gen_loss_avg, train_disc_loss_avg, test_gen_loss, test_disc_loss, test_pesq, lr_gen, lr_disc, is_best.
"""

import csv
import math
import re
from typing import Any

from cmgan_jax.diagnosis.numerals import NUMBER, whole
from cmgan_jax.diagnosis.published_log import Parsed

STEP_COLUMNS = ("timestamp", "epoch", "step", "gen_loss", "disc_loss", "lr_gen", "lr_disc")
EPOCH_COLUMNS = (
    "timestamp",
    "epoch",
    "train_gen_loss_avg",
    "train_disc_loss_avg",
    "test_gen_loss",
    "test_disc_loss",
    "test_pesq",
    "lr_gen",
    "lr_disc",
    "is_best",
)
NAMES = {
    "epoch": "epoch",
    "step": "step",
    "gpu": "device",
    "rank": "device",
    "device": "device",
    "loss": "generator_loss",
    "gen_loss": "generator_loss",
    "disc_loss": "discriminator_loss",
    "lr_gen": "generator_rate",
    "lr_disc": "discriminator_rate",
    "train_gen_loss_avg": "train.generator_loss",
    "train_disc_loss_avg": "train.discriminator_loss",
    "train_gen_loss": "train.generator_loss",
    "train_disc_loss": "train.discriminator_loss",
    "test_gen_loss": "validation.loss",
    "test_disc_loss": "validation.discriminator_loss",
    "test_pesq": "validation.pesq",
    "val_pesq": "validation.pesq",
    "is_best": "best",
}
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d")
_NUMERAL = re.compile(NUMBER, re.I)
_YES = {"yes", "true", "1", "1.0"}


def parse_csv(text: str) -> Parsed | None:
    """Read a CSV log of steps or of epochs.

    Args:
        text: the whole file.

    Returns:
        Its records (the later one if an epoch or a step occurs twice); None if it is not such a log.
    """
    lines = [line for line in text.replace("\x00", "").splitlines(keepends=True) if line.strip()]
    header, delimiter = _header(lines)
    if header is None:
        return None
    names = [NAMES.get(name, "") for name in header]
    rows, parsed = [], Parsed()
    for line in lines:
        fields = [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]
        if [field.lower() for field in fields] == header:
            continue  # repeated after a restart
        # The last field of a truncated line may be truncated itself; one that is followed by another is complete.
        ended = line.endswith(("\n", "\r"))
        row = dict(zip(names, fields if ended and len(fields) >= len(header) else fields[:-1], strict=False))
        row.pop("", None)
        if _NUMERAL.fullmatch(row.get("epoch", "")) and len(row) > 1 and len(fields) <= len(header):
            rows.append(row)
        parsed.torn += len(fields) != len(header) or (not ended and not fields[-1])
    is_steps = "discriminator_loss" in names
    wanted = "discriminator_loss" if is_steps else "epoch"
    rows = [row for row in rows if _NUMERAL.fullmatch(row.get(wanted, ""))]
    if is_steps:
        parsed.style, flags = whole([(row[wanted], True) for row in rows])
        parsed.torn += sum(not flag for flag in flags)
        rows = [row for row, flag in zip(rows, flags, strict=True) if flag]
    records = {(row.get("device", ""), row["epoch"], row.get("step")): _numbers(row) for row in rows}
    if is_steps:
        parsed.steps = list(records.values())
    else:
        parsed.epochs = list(records.values())
    return parsed


def _header(lines: list[str]) -> tuple[list[str] | None, str]:
    """Return the columns' names and the separator; a log without header is recognised by its width and time stamps."""
    for line in lines[:1]:
        for delimiter in ",;\t":
            fields = [field.strip().strip('"').lower() for field in line.split(delimiter)]
            if "epoch" in fields and any(NAMES.get(name, "") not in ("", "epoch", "step") for name in fields):
                return fields, delimiter
            for known in (STEP_COLUMNS, EPOCH_COLUMNS):
                if len(fields) == len(known) and _TIMESTAMP.match(fields[0]) and _NUMERAL.fullmatch(fields[1]):
                    return list(known), delimiter
    return None, ","


def _numbers(row: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {"device": row.get("device", "")}
    for name, field in row.items():
        if name == "best":
            values[name] = float(field.lower() in _YES)
        elif name != "device":
            values[name] = float(field) if _NUMERAL.fullmatch(field) else math.nan
    return values
