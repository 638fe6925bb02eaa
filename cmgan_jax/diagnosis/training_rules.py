"""Rules on step records: updates, targets, scores, level and waiting times."""

import numpy as np

from cmgan_jax.diagnosis.finding import Finding, Thresholds, code_for
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.losses import failing_samples, losses_of
from cmgan_jax.diagnosis.validation_rules import is_early, last_third, steps_made
from cmgan_jax.metrics.protocol import PESQ
from cmgan_jax.runs.records import join_ranges

POLICY = "targets.policy"


def _few(losses: int, history: History, t: Thresholds) -> bool:
    """Whether there are too few losses for a distribution; a run's records are means over many steps."""
    if history.source.kind == "run":
        return not losses or (losses < t.fewest_losses and is_early(history, t))
    return losses < t.fewest_losses


def skipped_updates(history: History, t: Thresholds) -> Finding | None:
    """Report skipped discriminator updates."""
    losses = losses_of(history, thresholds=t)
    if _few(losses.count, history, t) or losses.zeros != "skipped" or losses.zero < t.skipped_share:
        return None
    if history.source.kind == "run":
        policy = history.source.settings.get(POLICY)
        why = f" (policy {policy})" if policy else ""
        text = f"discriminator updates were skipped: {losses.zero:.1%} of the steps made none{why}"
    else:
        batch = history.source.settings.get("batch", 4)
        resolution = history.source.resolution
        are = f"printed as 0, and none of the others is near {resolution:.0e}" if resolution else "exactly 0"
        text = (
            f"discriminator updates were skipped: {losses.zero:.1%} of {losses.count} logged losses are {are}; the "
            "published code logs 0 for a batch in which a PESQ score fails. With "
            f"{batch} crops a batch, {failing_samples(losses.zero, batch):.1%} of failing crops do that"
        )
    return Finding("skipped_updates", text)


def discriminator_converged(history: History, t: Thresholds) -> Finding | None:
    """Report many small discriminator losses that are not skipped updates."""
    place = np.arange(len(history.step("discriminator_loss")))
    late = place >= len(place) - -(-len(place) // 3)
    whole, last = (losses_of(history, rows, t) for rows in (None, late))
    if _few(whole.count, history, t):
        return None
    looked_at = [(whole.small_of_made, "the losses"), (last.small_of_made, "the last third of the losses")]
    if last.count < t.fewest_losses:
        del looked_at[1]
    if whole.zeros == "unclear":
        looked_at = [(whole.small, "the losses")]
    share, where = next(((share, where) for share, where in looked_at if share >= t.converged_share), (0.0, ""))
    if not where:
        return None
    exactly = "" if whole.zeros == "none" else " that are not 0"
    text = f"discriminator saturated: {share:.0%} of {where}{exactly} are under {t.small_loss:g}"
    if np.isfinite(whole.lowest):
        text += f" (smallest {whole.lowest:.2g}, largest {whole.highest:.2g})"
    if whole.zeros == "unclear":
        text += (
            f"; {whole.zero:.0%} are printed as 0, which at this precision may be skipped updates or losses under "
            f"{history.source.resolution / 2:.0e}"
        )
    elif whole.zeros == "none":
        text += "; none is exactly 0, so no update was skipped: it predicts its targets"
    return Finding("discriminator_converged", text)


def targets_constant(history: History, t: Thresholds) -> Finding | None:
    """Report that the targets within a batch do not differ."""
    spread = last_third(history, "target_spread")
    if not spread < t.constant_spread or history.source.settings.get("batch") == 1:
        return None
    policy = history.source.settings.get(POLICY)
    # An untrained generator gives every crop the lowest score.
    if is_early(history, t) and policy != "batch_mean":
        return None
    why = "batch-mean policy" if policy == "batch_mean" else "every crop of a batch has the same target"
    return Finding("targets_constant", f"targets constant: {why} (standard deviation {spread:.4f} within a batch)")


def scores_failing(history: History, t: Thresholds) -> Finding | None:
    """Report failing scores of training crops or of held-out files."""
    said = [text for text in (_crops_failing(history, t), _files_failing(history)) if text]
    return Finding("scores_failing", "; ".join(said)) if said else None


def _crops_failing(history: History, t: Thresholds) -> str:
    reasons = _reasons(history)
    failed = sum(reasons.values())
    listed = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items(), key=lambda of: -of[1]))
    valid = history.trained("valid_share")
    known = valid[np.isfinite(valid)]
    if known.size:
        share = 1 - float(np.mean(known))
    else:
        # If the share is not recorded, it is computed from the counts.
        scores = steps_made(history) * history.source.settings.get("batch", 0)
        share = failed / scores if scores else 0.0
        if failed and not scores:
            return f"{failed} {history.metric.label} scores of training crops failed ({listed})"
    if share <= t.failing_share:
        return ""
    usual = ": on real speech 0 do" if history.metric == PESQ else ""
    return f"{share:.1%} of the {history.metric.label} scores failed{f' ({listed})' if listed else ''}{usual}"


def _reasons(history: History) -> dict[str, int]:
    """Count failed scores of training crops by reason, from the step records, or from the epochs' without those."""
    for columns, prefix in ((history.steps, "failures."), (history.epochs, "train.failures.")):
        counts = {
            name.removeprefix(prefix): int(np.nansum(values))
            for name, values in columns.items()
            if name.startswith(prefix)
        }
        if any(counts.values()):
            return {reason: count for reason, count in counts.items() if count}
    return {}


def _files_failing(history: History) -> str:
    missing = (history.epoch("validation.complete") == 0) | (history.epoch("not_finite.validation.score") > 0)
    if not missing.any():
        return ""
    numbers, label = history.epoch("epoch")[missing], history.metric.label
    scored, files = (history.epoch(f"validation.{name}")[missing] for name in ("scored", "files"))
    least = int(np.nanargmin(scored)) if np.isfinite(scored).any() else 0
    worst = (
        f" (in epoch {numbers[least]:.0f} {scored[least]:.0f} of {files[least]:.0f})"
        if np.isfinite(scored).any()
        else ""
    )
    return (
        f"not all held-out files have a {label} in epoch{'s' * (numbers.size > 1)} "
        f"{join_ranges(map(int, numbers))}{worst}: the rules on {label} leave "
        f"{'these' if numbers.size > 1 else 'it'} out, so a collapse "
        f"{'in its last epoch ' if missing[-1] else ''}may not show"
    )


def output_level(history: History, t: Thresholds) -> Finding | None:
    """Report output that is too quiet or too loud."""
    level = last_third(history, "level_db")
    if is_early(history, t) or not abs(level) > t.level_db:
        return None
    unnormalised = history.source.settings.get("loss.time_reference") == "unnormalised"
    why = ": the time loss compares with the un-normalised clean signal, which lowers the gain" if unnormalised else ""
    return Finding("output_level", f"output {abs(level):.1f} dB too {'quiet' if level < 0 else 'loud'}{why}")


def adversarial_dominates(history: History, t: Thresholds) -> Finding | None:
    """Report that most of the generator's gradient comes from the discriminator."""
    share = last_third(history, "adversarial_share")
    if not share > t.dominant_share:
        return None
    return Finding("adversarial_dominates", f"{share:.0%} of the generator's gradient comes from the adversarial term")


_LOSSES = ("generator_loss", "discriminator_loss")
_OF_EPOCHS = {
    "train.generator_loss": "the generator's training loss",
    "train.discriminator_loss": "the discriminator's training loss",
    "validation.loss": "the validation loss",
    "validation.discriminator_loss": "the discriminator's validation loss",
    "validation.si_sdr": "the validation SI-SDR",
}
_ROUNDING = 1e-6


def non_finite(history: History, t: Thresholds) -> Finding | None:
    """Report losses that are not finite, or updates of either network skipped because their gradient was not."""
    said = []
    if steps := _steps_not_finite(history):
        said.append(f"{steps} steps had a loss or a gradient that is not finite, and made no update")
    if stopped := history.source.stopped:
        said.append(f"the run stopped at step {stopped[-1]}: too many steps in a row were not finite")
    for network, share in (("generator", _left_out(history)), ("discriminator", _left_out_unskipped(history))):
        if share > _ROUNDING:
            said.append(f"{share:.2%} of the {network}'s updates were left out: its gradient was not finite")
    said += [text for text in (_losses_not_finite(history),) if text]
    for name, words in _OF_EPOCHS.items():
        lost = history.epoch(f"not_finite.{name}") > 0
        if name == "validation.si_sdr":
            # Without validation files there is no SI-SDR.
            lost &= history.epoch("validation.files") != 0
        if lost.any():
            numbers = join_ranges(map(int, history.epoch("epoch")[lost]))
            said.append(f"{words} is no finite number in epoch{'s' * (int(lost.sum()) > 1)} {numbers}")
    return Finding("non_finite", "; ".join(said)) if said else None


def _steps_not_finite(history: History) -> int:
    """Count steps that were not finite; each record holds the number since the start."""
    counted = np.concatenate([history.step("not_finite"), history.epoch("train.not_finite")])
    # Earlier versions recorded the number for each window.
    windows = np.nansum(history.trained("nonfinite_count"))
    return int(max(np.nanmax(counted) if np.isfinite(counted).any() else 0, windows))


def _left_out(history: History) -> float:
    """Share of the generator's updates that were not made."""
    made = history.trained("generator_update")
    known = made[np.isfinite(made)]
    return 1 - float(np.mean(known)) if known.size else 0.0


def _left_out_unskipped(history: History) -> float:
    """Share of the discriminator's updates that were not made, except those that the policy skipped.

    A skipped update is recorded with a loss of exactly 0. If that share is missing (records of an early revision), all
    count as skipped, unless the policy never skips.
    """
    names = ("discriminator_update", "discriminator_loss_zero")
    made, zero = map(history.step, names)
    if not np.isfinite(made).any():
        made, zero = (history.epoch(f"train.{name}") for name in names)
    if history.source.settings.get(POLICY, "skip") != "skip":
        zero = np.nan_to_num(zero)
    known = np.isfinite(made) & np.isfinite(zero)
    return float(np.mean(1 - made[known] - zero[known])) if known.any() else 0.0


def _losses_not_finite(history: History) -> str:
    """Describe non-finite losses of single steps, which logs and some records have."""
    lost = {name: np.nan_to_num(history.step(f"not_finite.{name}")) for name in _LOSSES}
    listed = [f"{of.sum():.0f} of the {name.removesuffix('_loss')}'s" for name, of in lost.items() if of.any()]
    if not listed:
        return ""
    bad = int(np.flatnonzero(sum(lost.values()))[0])
    first = f"epoch {history.step('epoch')[bad]:.0f}, step {history.step('step')[bad]:.0f}"
    return f"losses that are no finite numbers: {' and '.join(listed)}, the first in {first}"


def pesq_wait(history: History, t: Thresholds) -> Finding | None:
    """Report that steps wait for scores."""
    waited, step = last_third(history, "score_wait_ms"), last_third(history, "step_ms")
    if not waited > t.pesq_wait_share * step:
        return None
    return Finding(
        code_for("pesq_wait", history.metric),
        f"a step waits {waited:.0f} ms for {history.metric.label}, {waited / step:.0%} of its time: more cores, or "
        "--targets.workers",
    )


def data_wait(history: History, t: Thresholds) -> Finding | None:
    """Report that steps wait for data."""
    waited, step = last_third(history, "data_wait_ms"), last_third(history, "step_ms")
    if not waited > t.data_wait_share * step:
        return None
    return Finding(
        "data_wait",
        f"a step waits {waited:.0f} ms for data, {waited / step:.0%} of its time: "
        "more --data.threads, or a faster disk",
    )


RULES = (
    skipped_updates,
    discriminator_converged,
    targets_constant,
    adversarial_dominates,
    output_level,
    scores_failing,
    non_finite,
    pesq_wait,
    data_wait,
)
