"""Rules on what the steps say: updates, targets, scores, level, time."""

import numpy as np

from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.losses import failing_samples, losses_of
from cmgan_jax.diagnosis.validation_rules import is_early, last_third
from cmgan_jax.diagnosis.verdict import Thresholds, Verdict

POLICY = "targets.policy"


def skipped_updates(history: History, t: Thresholds) -> Verdict | None:
    """Discriminator updates were left out."""
    losses = losses_of(history, thresholds=t)
    if losses.count < t.fewest_losses or losses.zeros != "skipped" or losses.zero < t.skipped_share:
        return None
    if history.source.kind == "run":
        policy = history.source.numbers.get(POLICY)
        why = f" (policy {policy})" if policy else ""
        text = f"discriminator updates were skipped: {losses.zero:.1%} of the steps made none{why}"
    else:
        batch = history.source.numbers.get("batch", 4)
        resolution = history.source.resolution
        are = f"printed as 0, and none of the others is near {resolution:.0e}" if resolution else "exactly 0"
        text = (
            f"discriminator updates were skipped: {losses.zero:.1%} of {losses.count} logged losses are {are}; the "
            "published code logs 0 for a batch in which a PESQ score fails. With "
            f"{batch} crops a batch, {failing_samples(losses.zero, batch):.1%} of failing crops do that"
        )
    return Verdict("skipped_updates", text)


def discriminator_converged(history: History, t: Thresholds) -> Verdict | None:
    """Many losses are small, but are no skipped updates."""
    place = np.arange(len(history.step("discriminator_loss")))
    late = place >= len(place) - -(-len(place) // 3)
    whole, last = (losses_of(history, rows, t) for rows in (None, late))
    if whole.count < t.fewest_losses:
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
    return Verdict("discriminator_converged", text)


def targets_constant(history: History, t: Thresholds) -> Verdict | None:
    """The targets of a batch do not differ."""
    spread = last_third(history, "target_spread")
    if not spread < t.constant_spread or history.source.numbers.get("batch") == 1:
        return None
    policy = history.source.numbers.get(POLICY)
    # A generator that has learnt nothing yet gives every crop the lowest score.
    if is_early(history, t) and policy != "batch_mean":
        return None
    why = "batch-mean policy" if policy == "batch_mean" else "every crop of a batch has the same target"
    return Verdict("targets_constant", f"targets constant: {why} (standard deviation {spread:.4f} within a batch)")


def scores_failing(history: History, t: Thresholds) -> Verdict | None:
    """PESQ fails on training crops."""
    valid = history.step("valid_share")
    known = valid[np.isfinite(valid)]
    share = 1 - float(np.mean(known)) if known.size else 0.0
    if share <= t.failing_share:
        return None
    reasons = {
        name.removeprefix("failures."): int(np.nansum(values))
        for name, values in history.steps.items()
        if name.startswith("failures.")
    }
    listed = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items(), key=lambda of: -of[1]))
    return Verdict(
        "scores_failing",
        f"{share:.1%} of the PESQ scores failed{f' ({listed})' if listed else ''}: on real speech 0 do",
    )


def output_level(history: History, t: Thresholds) -> Verdict | None:
    """The output is too quiet or too loud."""
    level = last_third(history, "level_db")
    if is_early(history, t) or not abs(level) > t.level_db:
        return None
    unnormalised = history.source.numbers.get("loss.time_reference") == "unnormalised"
    why = ": the time loss compares with the un-normalised clean signal, which lowers the gain" if unnormalised else ""
    return Verdict("output_level", f"output {abs(level):.1f} dB too {'quiet' if level < 0 else 'loud'}{why}")


def adversarial_dominates(history: History, t: Thresholds) -> Verdict | None:
    """Most of the generator's gradient comes from the discriminator."""
    share = last_third(history, "adversarial_share")
    if not share > t.dominant_share:
        return None
    return Verdict("adversarial_dominates", f"{share:.0%} of the generator's gradient comes from the adversarial term")


def non_finite(history: History, t: Thresholds) -> Verdict | None:
    """Losses that are not finite, or updates left out because their gradient was not."""
    made = history.step("generator_update")
    known = made[np.isfinite(made)]
    if known.size and (share := 1 - float(np.mean(known))) > 0:
        return Verdict(
            "non_finite", f"{share:.2%} of the generator's updates were left out: the gradient was not finite"
        )
    counts = {
        name: int(np.nansum(history.step(f"not_finite.{column}")))
        for name, column in (("generator", "generator_loss"), ("discriminator", "discriminator_loss"))
    }
    listed = [f"{count} of the {name}'s" for name, count in counts.items() if count]
    if not listed:
        return None
    bad = np.flatnonzero(np.nan_to_num(sum(history.step(f"not_finite.{n}_loss") for n in counts)))
    first = f"epoch {history.step('epoch')[bad[0]]:.0f}, step {history.step('step')[bad[0]]:.0f}" if bad.size else ""
    return Verdict("non_finite", f"losses that are no finite numbers: {' and '.join(listed)}, the first in {first}")


def pesq_wait(history: History, t: Thresholds) -> Verdict | None:
    """Steps wait for PESQ."""
    waited, step = last_third(history, "pesq_wait_ms"), last_third(history, "step_ms")
    if not waited > t.pesq_wait_share * step:
        return None
    return Verdict(
        "pesq_wait",
        f"a step waits {waited:.0f} ms for PESQ, {waited / step:.0%} of its time: more cores, or --targets.workers",
    )


def data_wait(history: History, t: Thresholds) -> Verdict | None:
    """Steps wait for data."""
    waited, step = last_third(history, "data_wait_ms"), last_third(history, "step_ms")
    if not waited > t.data_wait_share * step:
        return None
    return Verdict(
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
