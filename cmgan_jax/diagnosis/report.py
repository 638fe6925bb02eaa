"""A diagnosis as one document: findings, shares, epochs and evidence. Terminal, JSON and page show only this."""

import math
from typing import Any

import numpy as np

from cmgan_jax.diagnosis.evidence import cannot_tell, findings, interval
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.losses import Losses, failing_samples, losses_of
from cmgan_jax.diagnosis.rules import CODES, apply_rules
from cmgan_jax.metrics.protocol import PESQ
from cmgan_jax.system.outputs import plain

BATCHES = (1, 2, 4, 8, 16)
"""Batch sizes for which a share of skipped updates is converted to a share of failing samples."""

_OF_EPOCH = {
    "generator_loss": "train.generator_loss",
    "validation_loss": "validation.loss",
    "best": "best",
    "rank_correlation": "validation.rank_correlation",
    "calibration_error": "validation.calibration_error",
}
_OF_STEPS = {"updates_made": "discriminator_update", "valid_share": "valid_share", "level_db": "level_db"}


def document(history: History) -> dict[str, Any]:
    """Diagnose a history; the result is made of plain values for JSON.

    Returns:
        `findings`, `shares`, `failing_samples_if_batch`, `epochs`, `published_defects`, `cannot_tell`, `source`.
    """
    losses = losses_of(history)
    source = history.source
    return plain(
        {
            "findings": [{"code": finding.code, "text": finding.text} for finding in apply_rules(history)],
            "shares": losses.to_dict(),
            "failing_samples_if_batch": _failing(losses),
            "epochs": epochs(history),
            "published_defects": [vars(finding) for finding in findings(history)],
            "cannot_tell": list(cannot_tell(history)),
            "source": {
                "kind": source.kind,
                "names": list(source.names),
                "notes": list(source.notes),
                "disc_loss_resolution": source.resolution,
                "steps_between_records": interval(history),
                "batch": source.settings.get("batch"),
                "recipe": source.settings.get("recipe"),
                "policy": source.settings.get("targets.policy"),
                "target_metric": source.metric.to_dict(),
            },
        }
    )


def collapsed(content: dict[str, Any]) -> bool:
    """Whether a document reports a collapse."""
    return any(CODES[finding["code"]].level == "collapse" for finding in content["findings"])


def epochs(history: History) -> list[dict[str, Any]]:
    """Make a row for each epoch: the distribution of its discriminator losses, and its validation."""
    at, of_steps = history.epoch("epoch"), history.step("epoch")
    numbers = np.unique(np.concatenate([at, of_steps]))
    return [_row(history, number) for number in numbers[np.isfinite(numbers)]]


def _row(history: History, number: float) -> dict[str, Any]:
    rows = history.step("epoch") == number
    losses = losses_of(history, rows)
    row = {
        "epoch": int(number),
        "disc_losses": losses.count,
        "zero": losses.zero,
        "under_1e-3": losses.small,
        "lowest_not_zero": losses.lowest,
        "median_not_zero": losses.quantiles[2] if losses.quantiles else math.nan,
        "highest": losses.highest,
    }
    row |= {name: _mean(history.step(column)[rows]) for name, column in _OF_STEPS.items()}
    chosen = history.epoch("epoch") == number
    row |= {name: _mean(history.epoch(column)[chosen]) for name, column in _OF_EPOCH.items()}
    scored, files = (_mean(history.epoch(f"validation.{name}")[chosen]) for name in ("scored", "files"))
    # A complete score is expected, and not reported.
    name = "pesq" if history.metric.name == PESQ.name else "score"
    return row | {name: _mean(history.score[chosen]), "files_scored": scored / files if scored < files else math.nan}


def _failing(losses: Losses) -> dict[str, float]:
    if losses.zeros != "skipped":
        return {}
    return {str(batch): failing_samples(losses.zero, batch) for batch in BATCHES}


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.mean(known)) if known.size else math.nan
