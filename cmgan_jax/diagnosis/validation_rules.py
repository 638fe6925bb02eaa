"""Rules on validation: the target metric, the loss, and the discriminator's predictions for held-out files.

Thresholds in MOS are for PESQ; for another metric they are scaled to the same share of its range.
"""

import numpy as np

from cmgan_jax.diagnosis.finding import Finding, Thresholds, code_for
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.trend import SPAN, Fall, deepest, fall_of
from cmgan_jax.metrics.protocol import PESQ

NEW_LOW = "since epoch {} it lies between {:.2f} and {:.2f}"


def known_scores(history: History) -> tuple[np.ndarray, np.ndarray]:
    """Return epoch numbers and validation scores of the epochs in which all held-out files were scored."""
    scores = history.score
    known = np.isfinite(scores)
    return history.epoch("epoch")[known], scores[known]


def in_units(history: History, mos: float) -> float:
    """Convert a threshold from MOS of PESQ to the target metric: the same share of its range."""
    return mos * (history.metric.span / PESQ.span)


def _deepest(history: History, t: Thresholds) -> Fall | None:
    """Return the fall of the target metric, oriented so that higher is better."""
    drops = tuple(in_units(history, drop) for drop in t.collapse_drops)
    return deepest(history.metric.oriented(known_scores(history)[1]), drops, t.collapse_noises)


def pesq_collapse(history: History, t: Thresholds) -> Finding | None:
    """Report that the target metric, by default PESQ, got worse in validation and stayed so."""
    epochs, scores = known_scores(history)
    fall, metric = _deepest(history, t), history.metric
    if fall is None:
        return None
    best, lowest, highest = metric.oriented(np.array([fall.best, fall.lowest, fall.highest]))
    at = epochs[-fall.span :]
    end = f"epoch {at[-1]:.0f}" if fall.span == 1 else f"epochs {at[0]:.0f} to {at[-1]:.0f}"
    return Finding(
        code_for("pesq_collapse", metric),
        f"validation {metric.label} collapsed: the best was {best:.2f} (epoch {epochs[fall.best_at]:.0f}), {end} "
        f"{'has' if fall.span == 1 else 'have a mean of'} {np.mean(scores[-fall.span :]):.2f}, "
        f"{abs(best - np.mean(scores[-fall.span :])):.2f} {metric.worse}; "
        + NEW_LOW.format(f"{epochs[fall.since]:.0f}", *sorted((lowest, highest))),
    )


def loss_pesq_divergence(history: History, t: Thresholds) -> Finding | None:
    """Report that the target metric got worse in validation while the loss fell."""
    epochs, scores = known_scores(history)
    metric = history.metric
    fall = _deepest(history, t) or _divergence(history, t)
    if fall is None:
        return None
    fallen = [
        f"{label} fell from {before:.4f} to {after:.4f}"
        for name, label in (("validation.loss", "validation loss"), ("train.generator_loss", "training loss"))
        if (change := _change(history, name, epochs[fall.best_at], fall.span))
        and (before := change[0]) > (after := change[1])
    ]
    if not fallen:
        return None
    ranks = history.epoch("validation.rank_correlation")
    ranks = ranks[np.isfinite(ranks)]
    known = f"the discriminator's rank correlation with true {metric.label} is {ranks[-1]:.2f}" if ranks.size else ""
    return Finding(
        code_for("loss_pesq_divergence", metric),
        f"validation {metric.label} {'fell' if metric.higher_is_better else 'rose'} "
        f"{abs(metric.oriented(fall.best) - np.mean(scores[-fall.span :])):.2f} {metric.worse} its best (epoch "
        f"{epochs[fall.best_at]:.0f}) while {' and '.join(fallen)}"
        + (f": {known}" if known else ": what is minimised no longer measures what is wanted"),
    )


def _divergence(history: History, t: Thresholds) -> Fall | None:
    fall = fall_of(history.metric.oriented(known_scores(history)[1]))
    least = in_units(history, t.divergence_drop)
    return fall if fall and fall.drop >= max(least, t.divergence_noise * fall.noise) else None


def _change(history: History, name: str, best: float, span: int) -> tuple[float, float] | None:
    """Return means of a loss over the epochs around the best, and over the last epochs."""
    epochs, loss = history.epoch("epoch"), history.epoch(name)
    before = loss[np.abs(epochs - best) <= SPAN // 2]
    before, after = (part[np.isfinite(part)] for part in (before, loss[-span:]))
    return (float(np.mean(before)), float(np.mean(after))) if before.size and after.size else None


def loss_collapse(history: History, t: Thresholds) -> Finding | None:
    """Report that the loss rose to a multiple of its minimum and stayed there."""
    label, rise = _rise(history, t)
    if rise is None or rise.drop < t.collapsed_loss * abs(rise.best):
        return None
    return Finding("loss_collapse", f"the training collapsed: {_risen(history, label, rise)}")


def validation_loss_rising(history: History, t: Thresholds) -> Finding | None:
    """Report that the loss is well above its minimum, but not a multiple of it."""
    label, rise = _rise(history, t)
    if rise is None or rise.drop >= t.collapsed_loss * abs(rise.best):
        return None
    return Finding("validation_loss_rising", _risen(history, label, rise))


def _rise(history: History, t: Thresholds) -> tuple[str, Fall | None]:
    """Return the rise of the validation loss, or of the training loss without validation."""
    name = "validation.loss" if np.isfinite(history.epoch("validation.loss")).any() else "train.generator_loss"
    loss = history.epoch(name)
    fall = fall_of(-loss[np.isfinite(loss)])
    if fall and fall.drop < max(t.rising_loss * abs(fall.best), t.rising_noise * fall.noise):
        fall = None
    return name, fall


def _risen(history: History, name: str, rise: Fall) -> str:
    loss = history.epoch(name)
    epochs, loss = history.epoch("epoch")[np.isfinite(loss)], loss[np.isfinite(loss)]
    return (
        f"the {'validation' if name.startswith('validation') else 'training'} loss rose since epoch "
        f"{epochs[rise.since]:.0f}, from {-rise.best:.4f} (epoch {epochs[rise.best_at]:.0f}) to "
        f"{np.mean(loss[-SPAN:]):.4f} (mean of the last {SPAN} epochs)"
    )


def discriminator_uninformative(history: History, t: Thresholds) -> Finding | None:
    """Report that the discriminator does not rank estimates as the target metric does."""
    metric = history.metric.label
    value, where = recent(history, "validation.rank_correlation", "rank_correlation")
    if is_early(history, t):
        return None
    if without := _without_order(history):
        return Finding(
            "discriminator_uninformative",
            f"the discriminator's predictions, or the scores they should be, are all the same {without}: there is no "
            f"order, so the generator learns nothing of {metric} from it",
        )
    if not value < t.uninformative_correlation:
        return None
    return Finding(
        "discriminator_uninformative",
        f"the discriminator does not rank as {metric} does: rank correlation {value:.2f} {where}, so the generator "
        f"learns nothing of {metric} from it",
    )


def _without_order(history: History) -> str:
    """Say where predictions have no computable rank correlation; "" where they have one."""
    known = np.flatnonzero(np.isfinite(history.epoch("validation.calibration_error")))[-SPAN:]
    if known.size:
        lost = history.epoch("not_finite.validation.rank_correlation")[known] > 0
        return f"on held-out files (the last {known.size} validations)" if lost.all() else ""
    predicted, ordered = (np.isfinite(last_third(history, name)) for name in ("window_error", "rank_correlation"))
    return "on training crops (last third of the steps)" if predicted and not ordered else ""


def worse_than_noisy(history: History, t: Thresholds) -> Finding | None:
    """Report that the enhanced files score worse than the noisy ones."""
    scores, noisy, metric = history.score, history.epoch("noisy.score"), history.metric
    both = np.flatnonzero(np.isfinite(scores) & np.isfinite(noisy))[-SPAN:]
    if (
        is_early(history, t)
        or not both.size
        or not metric.is_better(float(np.mean(noisy[both])), float(np.mean(scores[both])))
    ):
        return None
    return Finding(
        "worse_than_noisy",
        f"the enhanced held-out files have a {metric.label} of {np.mean(scores[both]):.2f}, and as they are, noisy, of "
        f"{np.mean(noisy[both]):.2f} (mean of the last {both.size} validations)",
    )


def discriminator_miscalibrated(history: History, t: Thresholds) -> Finding | None:
    """Report that predicted scores are far from true ones, or the prediction for clean speech far from 1."""
    metric = history.metric
    value, where = recent(history, "validation.calibration_error", "calibration_error")
    clean = last_third(history, "clean_score")
    if is_early(history, t):
        return None
    if not value > t.calibration_error:
        if not clean < t.clean_score:
            return None
        return Finding(
            "discriminator_miscalibrated",
            f"the discriminator gives clean speech {clean:.2f} on training crops (last third of the steps), and is "
            "taught to give it 1",
        )
    bias, _ = recent(history, "validation.calibration_bias", "calibration_bias")
    side = "high" if (bias > 0) == metric.higher_is_better else "low"
    lean = f", on average {abs(metric.span * bias):.2f} too {side}" if np.isfinite(bias) else ""
    return Finding(
        "discriminator_miscalibrated",
        f"the discriminator's prediction is off by {metric.amount(metric.span * value)}{lean} {where}",
    )


def steps_made(history: History) -> float:
    """Number of steps behind the last record."""
    known = [steps[np.isfinite(steps)] for steps in (history.step("step"), history.epoch("step"))]
    return float(max((steps.max() for steps in known if steps.size), default=0.0))


def is_early(history: History, t: Thresholds) -> bool:
    """Whether a run has hardly begun, so that its behaviour is not yet a symptom."""
    return history.source.kind == "run" and steps_made(history) < t.fewest_steps


def recent(history: History, validated: str, stepped: str) -> tuple[float, str]:
    """Return the mean of the last validations, or of the last third of the steps without any; and which it is."""
    epochs = history.epoch(validated)
    if np.isfinite(epochs).any():
        known = epochs[np.isfinite(epochs)][-SPAN:]
        count = f"the last {known.size} validations" if known.size > 1 else "the one validation"
        return float(np.mean(known)), f"on held-out files (mean of {count})"
    return last_third(history, stepped), "on training crops (last third of the steps)"


def last_third(history: History, name: str) -> float:
    """Mean of a column of training steps over the last third of its records; NaN if unknown."""
    values = history.trained(name)
    values = values[len(values) - -(-len(values) // 3) :]
    known = values[np.isfinite(values)]
    return float(np.mean(known)) if known.size else float("nan")


RULES = (
    pesq_collapse,
    loss_collapse,
    loss_pesq_divergence,
    validation_loss_rising,
    worse_than_noisy,
    discriminator_uninformative,
    discriminator_miscalibrated,
)
