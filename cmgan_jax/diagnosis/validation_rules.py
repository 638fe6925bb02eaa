"""Rules on what validation says: PESQ, loss, and the discriminator's judgement of held-out files."""

import numpy as np

from cmgan_jax.diagnosis.finding import Finding, Thresholds
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.trend import SPAN, Fall, deepest, fall_of

NEW_LOW = "since epoch {} it lies between {:.2f} and {:.2f}"


def known_pesq(history: History) -> tuple[np.ndarray, np.ndarray]:
    """Epoch numbers and validation PESQ of the epochs in which all held-out files were scored."""
    pesq = history.pesq
    known = np.isfinite(pesq)
    return history.epoch("epoch")[known], pesq[known]


def pesq_collapse(history: History, t: Thresholds) -> Finding | None:
    """Validation PESQ fell and stayed down."""
    epochs, pesq = known_pesq(history)
    fall = deepest(pesq, t.collapse_drops, t.collapse_noises)
    if fall is None:
        return None
    at = epochs[-fall.span :]
    end = f"epoch {at[-1]:.0f}" if fall.span == 1 else f"epochs {at[0]:.0f} to {at[-1]:.0f}"
    return Finding(
        "pesq_collapse",
        f"validation PESQ collapsed: the best was {fall.best:.2f} (epoch {epochs[fall.best_at]:.0f}), {end} "
        f"{'has' if fall.span == 1 else 'have a mean of'} {np.mean(pesq[-fall.span :]):.2f}, "
        f"{fall.best - np.mean(pesq[-fall.span :]):.2f} below; "
        + NEW_LOW.format(f"{epochs[fall.since]:.0f}", fall.lowest, fall.highest),
    )


def loss_pesq_divergence(history: History, t: Thresholds) -> Finding | None:
    """Validation PESQ fell while the loss fell too."""
    epochs, pesq = known_pesq(history)
    fall = deepest(pesq, t.collapse_drops, t.collapse_noises) or _divergence(pesq, t)
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
    known = f"the discriminator's rank correlation with true PESQ is {ranks[-1]:.2f}" if ranks.size else ""
    return Finding(
        "loss_pesq_divergence",
        f"validation PESQ fell {fall.best - np.mean(pesq[-fall.span :]):.2f} below its best (epoch "
        f"{epochs[fall.best_at]:.0f}) while {' and '.join(fallen)}"
        + (f": {known}" if known else ": what is minimised no longer measures what is wanted"),
    )


def _divergence(pesq: np.ndarray, t: Thresholds) -> Fall | None:
    fall = fall_of(pesq)
    return fall if fall and fall.drop >= max(t.divergence_drop, t.divergence_noise * fall.noise) else None


def _change(history: History, name: str, best: float, span: int) -> tuple[float, float] | None:
    """Means of a loss over the epochs around the best, and over the last."""
    epochs, loss = history.epoch("epoch"), history.epoch(name)
    before = loss[np.abs(epochs - best) <= SPAN // 2]
    before, after = (part[np.isfinite(part)] for part in (before, loss[-span:]))
    return (float(np.mean(before)), float(np.mean(after))) if before.size and after.size else None


def loss_collapse(history: History, t: Thresholds) -> Finding | None:
    """The loss rose to a multiple of its lowest and stayed there."""
    label, rise = _rise(history, t)
    if rise is None or rise.drop < t.collapsed_loss * abs(rise.best):
        return None
    return Finding("loss_collapse", f"the training collapsed: {_risen(history, label, rise)}")


def validation_loss_rising(history: History, t: Thresholds) -> Finding | None:
    """The loss lies well above its lowest, but is no multiple of it."""
    label, rise = _rise(history, t)
    if rise is None or rise.drop >= t.collapsed_loss * abs(rise.best):
        return None
    return Finding("validation_loss_rising", _risen(history, label, rise))


def _rise(history: History, t: Thresholds) -> tuple[str, Fall | None]:
    """The validation loss's rise, or the training loss's where there is no validation."""
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
    """The discriminator's order of estimates is not that of PESQ."""
    value, where = recent(history, "validation.rank_correlation", "rank_correlation")
    if is_early(history, t):
        return None
    if without := _without_order(history):
        return Finding(
            "discriminator_uninformative",
            f"the discriminator's predictions, or the scores they should be, are all the same {without}: there is no "
            "order, so the generator learns nothing of PESQ from it",
        )
    if not value < t.uninformative_correlation:
        return None
    return Finding(
        "discriminator_uninformative",
        f"the discriminator does not rank as PESQ does: rank correlation {value:.2f} {where}, so the generator learns "
        "nothing of PESQ from it",
    )


def _without_order(history: History) -> str:
    """Where no rank correlation could be computed though there were predictions; "" where one could."""
    known = np.flatnonzero(np.isfinite(history.epoch("validation.calibration_error")))[-SPAN:]
    if known.size:
        lost = history.epoch("not_finite.validation.rank_correlation")[known] > 0
        return f"on held-out files (the last {known.size} validations)" if lost.all() else ""
    predicted, ordered = (np.isfinite(last_third(history, name)) for name in ("window_error", "rank_correlation"))
    return "on training crops (last third of the steps)" if predicted and not ordered else ""


def worse_than_noisy(history: History, t: Thresholds) -> Finding | None:
    """The enhanced files score lower than the noisy ones."""
    pesq, noisy = history.pesq, history.epoch("noisy.pesq")
    both = np.flatnonzero(np.isfinite(pesq) & np.isfinite(noisy))[-SPAN:]
    if is_early(history, t) or not both.size or not np.mean(pesq[both]) < np.mean(noisy[both]):
        return None
    return Finding(
        "worse_than_noisy",
        f"the enhanced held-out files have a PESQ of {np.mean(pesq[both]):.2f}, and as they are, noisy, of "
        f"{np.mean(noisy[both]):.2f} (mean of the last {both.size} validations)",
    )


def discriminator_miscalibrated(history: History, t: Thresholds) -> Finding | None:
    """Predicted PESQ is far from true PESQ, or the score of clean speech from 1."""
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
    lean = f", on average {abs(3.5 * bias):.2f} too {'high' if bias > 0 else 'low'}" if np.isfinite(bias) else ""
    return Finding(
        "discriminator_miscalibrated",
        f"the discriminator's prediction is off by {3.5 * value:.2f} MOS{lean} {where}",
    )


def steps_made(history: History) -> float:
    """Steps behind the last record."""
    known = [steps[np.isfinite(steps)] for steps in (history.step("step"), history.epoch("step"))]
    return float(max((steps.max() for steps in known if steps.size), default=0.0))


def is_early(history: History, t: Thresholds) -> bool:
    """Whether a run has hardly begun: what it does then is no sign of anything."""
    return history.source.kind == "run" and steps_made(history) < t.fewest_steps


def recent(history: History, validated: str, stepped: str) -> tuple[float, str]:
    """The mean of the last validations, or of the last third of the steps where there were none; and which it is."""
    epochs = history.epoch(validated)
    if np.isfinite(epochs).any():
        known = epochs[np.isfinite(epochs)][-SPAN:]
        count = f"the last {known.size} validations" if known.size > 1 else "the one validation"
        return float(np.mean(known)), f"on held-out files (mean of {count})"
    return last_third(history, stepped), "on training crops (last third of the steps)"


def last_third(history: History, name: str) -> float:
    """Mean of a column of the training steps over the last third of its records; NaN where it is unknown."""
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
