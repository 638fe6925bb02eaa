"""The cost of health monitoring during metric-GAN training: `training.health`, its rules, and gradient shares."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from cmgan_jax.benchmarking.clock import in_turns
from cmgan_jax.config import Config
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.rules import apply_rules
from cmgan_jax.training.health import Pairs, Window

GOAL = 0.01
"""Maximum share of a step that health monitoring may take."""
RECORDS = 2_000
"""Step records of a long run: 40,000 steps of the paper's size, about 14 epochs."""
EPOCHS = 40
MADE_UP = (
    *("generator_loss", "discriminator_loss", "discriminator_loss_min", "discriminator_loss_small", "clean_score"),
    *("valid_share", "target_spread", "pesq", "rank_correlation", "window_bias", "window_error", "level_db"),
    *("generator_gradient_norm", "step_ms"),
)
"""Columns of a record that the rules read, besides those about updates."""
CALLS = 20
"""Calls in a sample of an operation that takes less than a millisecond."""


@dataclass(frozen=True)
class HealthCost:
    """Median seconds of each part of health monitoring, and how often each part runs.

    Attributes:
        window: seconds for bias, error and rank correlation of a full sliding window; every step.
        findings: seconds for all rules over the records of a long run; every `diagnose_every · log_every` steps.
        passes: two backward passes for the adversarial term's share, taken to last as long as two of the generator's
            whole forward and backward; every `adversarial_every` steps.
        step: seconds of a training step, for comparison.
        share: share of a step that all of this takes, without the report at an epoch's end.
    """

    window: float
    findings: float
    passes: float
    step: float
    share: float


def measure_health(config: Config, generator: float, step: float, repeats: int) -> HealthCost:
    """Measure the host's part, and compute the devices' part from given measurements.

    Args:
        config: tells how often health is measured.
        generator: seconds of the generator's forward and backward pass.
        step: seconds of a whole step.
        repeats: number of samples.
    """
    health = config.health
    rng = np.random.default_rng(0)
    window, crops = Window(), Pairs(*rng.uniform(size=(2, config.batch)))
    window.add(Pairs(*rng.uniform(size=(2, health.window))), health.window)
    records = synthetic_records(config, rng)
    as_dict = dataclasses.asdict(config)
    timings = in_turns(
        {
            "window": lambda: _seconds(lambda: window.add(crops, health.window), CALLS),
            "findings": lambda: _seconds(lambda: apply_rules(History.from_records(records, as_dict)), 1),
        },
        repeats,
    )
    of_window, of_findings = (timings[name].median for name in ("window", "findings"))
    interval = health.diagnose_every * config.log_every
    share = (
        of_window
        + (of_findings / interval if interval else 0.0)
        + (2 * generator / health.adversarial_every if health.adversarial_every else 0.0)
    ) / step
    return HealthCost(of_window, of_findings, 2 * generator, step, share)


def synthetic_records(config: Config, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Make up records of a healthy run, as many as a long run has."""
    fixed = {"generator_update": 1.0, "discriminator_update": 1.0, "discriminator_loss_zero": 0.0, "not_finite": 0}
    records: list[dict[str, Any]] = []
    for number in range(1, RECORDS + 1):
        step, epoch = number * config.log_every, 1 + (number - 1) * EPOCHS // RECORDS
        values = dict(zip(MADE_UP, rng.uniform(0.4, 0.6, len(MADE_UP)), strict=True))
        records.append({"kind": "step", "step": step, "epoch": epoch} | fixed | values)
        if number * EPOCHS % RECORDS == 0:
            validation = {"pesq": 2.0 + 0.01 * epoch, "loss": 0.2 - 0.001 * epoch, "scored": 8, "files": 8}
            records.append(
                {"kind": "epoch", "step": step, "epoch": epoch, "train": fixed | values} | {"validation": validation}
            )
    return records


def health_table(cost: HealthCost, config: Config) -> Table:
    """Make a table of the cost and frequency of each part, and the share of a step."""
    table = Table(title="health", title_justify="left")
    for name in ("", "takes", "every", "a step"):
        table.add_column(name, justify="right" if name else "left")
    health = config.health
    for name, seconds, every in (
        ("sliding window", cost.window, 1),
        (f"findings, {RECORDS:,} records", cost.findings, health.diagnose_every * config.log_every),
        ("adversarial share", cost.passes, health.adversarial_every),
    ):
        paid = f"{1e3 * seconds / every:.2f} ms" if every else "–"
        table.add_row(name, f"{1e3 * seconds:.2f} ms", f"{every} steps" if every else "never", paid)
    table.add_row("share of a step", "", "", f"{cost.share:.2%} (goal: under {GOAL:.0%})")
    return table


def _seconds(work: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - began) / calls
