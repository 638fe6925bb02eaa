"""Evidence in a training's records for or against each defect of the published code, and its limits."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.losses import Losses, losses_of
from cmgan_jax.metrics.protocol import PESQ
from cmgan_jax.runs.records import join_ranges

Stand = Literal["shown", "compatible", "against", "unknown", "on", "off"]

UNNORMALISED_FLOOR = 0.080
"""Mean generator loss of a perfect enhancer where the time loss compares with the un-normalised clean signal, at the
gain that minimises it (-3.75 dB): measured on 84 crops of 2 s from 14 VoiceBank+DEMAND files with the published
weights. At 0 dB it is 0.114."""
_MARGIN = 0.9
_SAME_BATCHES = 0.5
_FEWEST_PAIRS = 12
_WORSE = 0.05


@dataclass(frozen=True)
class Evidence:
    """What the records say about one defect of the published code.

    Attributes:
        defect: a short name.
        stand: `shown`, `compatible` with it, `against` it, or `unknown`; for a run of this project `on` or `off`.
        text: the reason, in a sentence.
    """

    defect: str
    stand: Stand
    text: str


def findings(history: History) -> tuple[Evidence, ...]:
    """Judge each defect of the published code from the records; for a run of this project, from its configuration."""
    if history.source.kind == "run":
        return _configured(history)
    looked = (_skipping(losses_of(history)), _time_loss(history), _same_order(history), _selection(history))
    return tuple(finding for finding in looked if finding)


def cannot_tell(history: History) -> tuple[str, ...]:
    """List what stays unknown, whatever the records contain."""
    missing = []
    is_log = history.source.kind == "log"
    if is_log:
        missing += [
            "whether the discriminator's prediction fits true PESQ, in size or in order: the log has one loss for its "
            "findings on estimates and on clean speech",
            "the output level against clean speech, and the spread of the targets",
            "which crops could not be scored, and why",
        ]
        every = interval(history)
        if every > 1:
            missing.append(f"what happened between the logged steps: one in {every:.0f} is in the log")
        if history.steps and np.unique(history.step("device")).size == 1:
            missing.append("the losses of other devices: one device's are in the log, or those of rank 0")
        resolution = history.source.resolution
        if resolution and (history.step("discriminator_loss") == 0).any():
            missing.append(
                f"a discriminator loss of 0 from one under {resolution / 2:.0e}: they are printed in steps of "
                f"{resolution:.0e}"
            )
    elif lost := _lost_epochs(history):
        missing.append(f"how epoch{'s' * (len(lost) > 1)} {join_ranges(lost)} ended: no record of it is there")
    if not np.isfinite(history.epoch("validation.score")).any():
        missing.append(
            f"whether validation {history.metric.label} rose or fell: none is recorded, so a collapse would not show"
        )
    if is_log and not history.steps:
        missing.append("how many discriminator updates were skipped: an epoch's mean loss does not show it")
    return tuple(missing)


def _lost_epochs(history: History) -> set[int]:
    """Return the epochs of a run before its last one that have no record."""
    values = history.epoch("epoch")
    known = {int(number) for number in values[np.isfinite(values)]}
    return set(range(1, max(known, default=0))) - known


def interval(history: History) -> float:
    """Return the number of steps between records; NaN if unknown."""
    steps = history.step("step")
    order = np.lexsort((steps, history.step("device"), history.step("epoch")))
    gaps = np.diff(steps[order])
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if gaps.size else float("nan")


def _skipping(losses: Losses) -> Evidence | None:
    defect = "a failed PESQ drops the batch's whole discriminator update"
    if not losses.count:
        return None
    if losses.zeros == "skipped":
        return Evidence(defect, "shown", f"{losses.zero:.1%} of {losses.count} logged losses are exactly 0")
    if losses.zeros == "unclear":
        return Evidence(
            defect, "unknown", f"{losses.zero:.1%} of the losses are printed as 0, which rounding also does"
        )
    # Rule of three: zero events in n trials bound the rate by 3 / n at 95 % confidence.
    most = min(3 / losses.count, 1.0)
    return Evidence(
        defect, "against", f"none of {losses.count} logged losses is 0: at most {most:.1%} of updates skipped (95 %)"
    )


def _time_loss(history: History) -> Evidence | None:
    defect = "the time loss compares with the un-normalised clean signal (since May 2023)"
    loss, name = history.epoch("validation.loss"), "validation"
    if not np.isfinite(loss).any():
        loss, name = history.epoch("train.generator_loss"), "training"
    known = loss[np.isfinite(loss)]
    if not known.size:
        return None
    lowest = float(known.min())
    floor = (
        f"that loss of a perfect enhancer is {UNNORMALISED_FLOOR:.3f} on VoiceBank+DEMAND with the published weights"
    )
    if lowest < _MARGIN * UNNORMALISED_FLOOR:
        return Evidence(defect, "against", f"the {name} loss got down to {lowest:.3f}, and {floor}")
    return Evidence(defect, "compatible", f"the {name} loss never got under {lowest:.3f}, and {floor}")


def _same_order(history: History) -> Evidence | None:
    """Whether each step sees the same batch in every epoch, in which case its loss recurs."""
    epochs, steps, devices, loss = (history.step(name) for name in ("epoch", "step", "device", "generator_loss"))
    before = dict(zip(zip(devices, epochs, steps, strict=True), loss, strict=True))
    here, there = [], []
    for epoch in np.unique(epochs)[1:]:
        pairs = [
            (before[device, epoch - 1, step], value)
            for device, step, value in zip(
                devices[epochs == epoch], steps[epochs == epoch], loss[epochs == epoch], strict=True
            )
            if np.isfinite(before.get((device, epoch - 1, step), np.nan)) and np.isfinite(value)
        ]
        if len(pairs) > 2:
            one, other = (np.array(side) - np.mean(side) for side in zip(*pairs, strict=True))
            here.append(one)
            there.append(other)
    if sum(part.size for part in here) < _FEWEST_PAIRS:
        return None
    one, other = np.concatenate(here), np.concatenate(there)
    scale = np.sqrt(np.sum(one**2) * np.sum(other**2))
    if not scale > 0 or (r := float(np.sum(one * other) / scale)) < _SAME_BATCHES:
        return None
    places = len(set(zip(devices, steps, strict=True)))
    return Evidence(
        "every epoch has the same order (set_epoch is never called)",
        "shown",
        f"generator losses at the same step of neighbouring epochs correlate by {r:.2f}: the log shows the same "
        f"{places} batches again and again, so its shares rest on those",
    )


def _selection(history: History) -> Evidence | None:
    best, pesq, epochs = history.epoch("best"), history.epoch("validation.pesq"), history.epoch("epoch")
    marked = np.flatnonzero((best > 0) & np.isfinite(pesq))
    if not marked.size:
        return None
    chosen, top = int(marked[-1]), int(np.nanargmax(pesq))
    if pesq[top] - pesq[chosen] < _WORSE:
        return None
    return Evidence(
        "the model is selected by a loss that includes the adversarial term",
        "shown",
        f"epoch {epochs[chosen]:.0f} is marked as best and has PESQ {pesq[chosen]:.2f}; epoch {epochs[top]:.0f} had "
        f"{pesq[top]:.2f}",
    )


def _configured(history: History) -> tuple[Evidence, ...]:
    values, metric = history.source.settings, history.metric
    beyond = "targets reach 1.04" if metric == PESQ else "targets reach beyond 0 and 1"
    options = (
        ("loss.time_reference", "unnormalised", "the time loss compares with the un-normalised clean signal"),
        ("targets.policy", "skip", f"a failed {metric.label} drops the batch's whole discriminator update"),
        ("targets.clip", False, f"{beyond}, above what a sigmoid can give"),
        ("optimiser.cross_device_batchnorm", False, "batch statistics per device"),
        ("data.validate_on_test", True, "the model is selected on the test set"),
    )
    return tuple(
        Evidence(defect, "on" if values[name] == value else "off", f"{name} is {values[name]}")
        for name, value, defect in options
        if name in values
    )
