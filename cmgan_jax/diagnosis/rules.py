"""The rules: each examines a history and returns a finding, or None. Codes and thresholds are in `finding`."""

from collections.abc import Callable

import numpy as np

from cmgan_jax.diagnosis import training_rules, validation_rules
from cmgan_jax.diagnosis.finding import CODES, Code, Finding, Thresholds
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.losses import losses_of
from cmgan_jax.diagnosis.validation_rules import is_early, known_scores, steps_made

__all__ = ["CODES", "RULES", "Code", "Finding", "Thresholds", "apply_rules"]

Rule = Callable[[History, Thresholds], Finding | None]

RULES: tuple[Rule, ...] = (*validation_rules.RULES, *training_rules.RULES)


def apply_rules(history: History, thresholds: Thresholds | None = None) -> tuple[Finding, ...]:
    """Apply every rule.

    Args:
        history: the records so far.
        thresholds: thresholds of the rules; None uses the documented ones.

    Returns:
        The findings, most severe first. If records are few, `too_little_data` is added; if there are no findings,
        `healthy` is the only one.
    """
    t = thresholds or Thresholds()
    found = [finding for rule in RULES if (finding := rule(history, t))]
    if little := too_little_data(history, t):
        found.append(little)
    return tuple(sorted(found, key=lambda finding: list(CODES).index(finding.code))) or (healthy(history),)


def too_little_data(history: History, t: Thresholds) -> Finding | None:
    """Report if there are too few records to say that nothing is wrong."""
    losses, epochs = losses_of(history).count, known_scores(history)[1].size
    if (losses >= t.fewest_losses and not is_early(history, t)) or epochs >= t.fewest_epochs:
        return None
    seen = f"{losses} discriminator losses (at least {t.fewest_losses} are wanted)"
    if history.source.kind == "run":
        seen = (
            f"{losses} windows up to step {steps_made(history):.0f} (at least {t.fewest_losses} up to step "
            f"{t.fewest_steps} are wanted)"
        )
    return Finding(
        "too_little_data",
        f"too little to conclude from: {seen} and {epochs} epochs with a validation {history.metric.label} (at least "
        f"{t.fewest_epochs})",
    )


def healthy(history: History) -> Finding:
    """Report that no rule found anything, and what the rules do not cover."""
    epochs, scores = known_scores(history)
    label = history.metric.label
    if not scores.size:
        return Finding(
            "healthy",
            f"nothing wrong in the losses; no validation {label} is recorded, so a collapse would not show here",
        )
    best = int(np.argmax(history.metric.oriented(scores)))
    return Finding(
        "healthy",
        f"nothing wrong: validation {label} {scores[-1]:.2f} in epoch {epochs[-1]:.0f}, best {scores[best]:.2f} in "
        f"epoch {epochs[best]:.0f}",
    )
