"""Findings: what a rule reports, and the thresholds at which it does."""

from dataclasses import dataclass, replace
from typing import Literal

from cmgan_jax.metrics.protocol import PESQ, Scale

Level = Literal["collapse", "fault", "sign", "unknown", "good"]
"""Severity: the training went wrong; a cause to be fixed; worth watching; nothing can be said; nothing is wrong."""


@dataclass(frozen=True)
class Thresholds:
    """All thresholds of the rules; the texts of findings name those that were crossed.

    Thresholds in MOS are for PESQ; for another target metric they are scaled to the same share of its range.
    """

    fewest_losses: int = 10
    """Minimum number of discriminator losses for a statement on their distribution."""
    fewest_steps: int = 100
    """Minimum number of steps of a run for a diagnosis of its discriminator, targets and level."""
    fewest_epochs: int = 4
    """Minimum number of epochs with a validation score, for a log without step records."""
    skipped_share: float = 0.02
    """Share of skipped discriminator updates."""
    small_loss: float = 1e-3
    """A discriminator loss below this is small: an error of 0.03, a tenth of a MOS."""
    converged_share: float = 0.4
    """Share of small losses among the updates made, over all of them or over the last third."""
    constant_spread: float = 0.005
    """Standard deviation of a batch's targets (0 to 1) below which they count as constant."""
    collapse_drops: tuple[float, ...] = (0.4, 0.3, 0.2)
    """Fall in MOS of the mean of the last 1, 2 and 3 epochs below the best (a mean of 3 neighbouring epochs)."""
    collapse_noises: tuple[float, ...] = (8.0, 6.0, 4.0)
    """The same in standard deviations of the epoch-to-epoch noise; both thresholds must be exceeded."""
    divergence_drop: float = 0.15
    """Fall in MOS of the last 3 epochs below the best while the loss fell."""
    divergence_noise: float = 4.0
    """The same in standard deviations of the epoch-to-epoch noise."""
    rising_loss: float = 0.15
    """Relative rise of the validation loss above its minimum (means of 3 epochs)."""
    rising_noise: float = 5.0
    """The same in standard deviations of the epoch-to-epoch noise."""
    collapsed_loss: float = 1.0
    """Relative rise of the validation loss at which the training counts as collapsed."""
    uninformative_correlation: float = 0.3
    """Rank correlation of predicted with true scores below which the discriminator gives the generator no
    information."""
    calibration_error: float = 0.15
    """Mean absolute error of predicted against true targets (0 to 1); for PESQ this is half a MOS."""
    clean_score: float = 0.5
    """Mean prediction for clean speech, which the discriminator is trained to score 1. Short trainings end above
    this."""
    dominant_share: float = 0.5
    """Share of the generator's gradient from the adversarial term."""
    level_db: float = 2.0
    """Difference in dB of the output level from the clean level, either way."""
    failing_share: float = 0.01
    """Share of scores that fail."""
    pesq_wait_share: float = 0.25
    """Share of a step's time spent waiting for scores."""
    data_wait_share: float = 0.25
    """Share of a step's time spent waiting for data."""


@dataclass(frozen=True)
class Code:
    """The documentation of a finding's code.

    Attributes:
        level: severity.
        meaning: what it means, in a line.
        rule: when it is reported, with the threshold.
    """

    level: Level
    meaning: str
    rule: str


_T = Thresholds()

_CODES: dict[str, Code] = {
    "pesq_collapse": Code(
        "collapse",
        "validation PESQ fell and stayed down",
        "mean of the last 1, 2 or 3 epochs at least {} MOS, and {} standard deviations of the epoch-to-epoch noise, "
        "below the best mean of 3 neighbouring epochs".format(
            *(" / ".join(f"{x:g}" for x in of) for of in (_T.collapse_drops, _T.collapse_noises))
        ),
    ),
    "loss_collapse": Code(
        "collapse",
        "the validation loss rose to a multiple of its lowest; without validation, the training loss",
        f"last 3 epochs at least {_T.collapsed_loss:.0%} and {_T.rising_noise:g} deviations above the lowest mean of 3",
    ),
    "loss_pesq_divergence": Code(
        "fault",
        "validation PESQ fell while the loss fell: the loss no longer measures what is wanted",
        f"last 3 epochs at least {_T.divergence_drop} MOS and {_T.divergence_noise:g} deviations below the best, loss "
        "lower than then",
    ),
    "validation_loss_rising": Code(
        "fault",
        "the validation loss rose from its lowest; without validation, the training loss",
        f"as loss_collapse, from {_T.rising_loss:.0%} on",
    ),
    "worse_than_noisy": Code(
        "fault",
        "the enhanced held-out files score worse than the noisy ones",
        "mean score of the last 3 validations worse than that of the files as they are",
    ),
    "skipped_updates": Code(
        "fault",
        "discriminator updates were left out; the published code logs exactly 0 for each",
        f"at least {_T.skipped_share:.0%} of the updates",
    ),
    "discriminator_converged": Code(
        "sign",
        "discriminator saturated: it predicts its targets, by small losses that are not 0",
        f"at least {_T.converged_share:.0%} of the losses of updates made are under {_T.small_loss:g}, over all or "
        "over the last third",
    ),
    "targets_constant": Code(
        "fault",
        "the targets of a batch are all the same: nothing to rank by",
        f"standard deviation in the batch under {_T.constant_spread} in the last third, batch above 1",
    ),
    "discriminator_uninformative": Code(
        "fault",
        "the discriminator does not rank estimates as the target metric does",
        f"rank correlation with true scores under {_T.uninformative_correlation}, or none because all predictions are "
        "the same: mean of the last 3 validations, or the last third of the steps",
    ),
    "discriminator_miscalibrated": Code(
        "sign",
        "predicted scores are far from true ones, or the score of clean speech from 1",
        f"mean absolute error over {_T.calibration_error} (0 to 1) over the last 3 validations, or the last third of "
        f"the steps; or clean speech under {_T.clean_score} in the last third",
    ),
    "adversarial_dominates": Code(
        "sign",
        "the generator follows the discriminator more than the distance to clean speech",
        f"adversarial share of the gradient over {_T.dominant_share:.0%} in the last third",
    ),
    "output_level": Code(
        "fault",
        "the output is too quiet or too loud against clean speech",
        f"more than {_T.level_db:g} dB either way in the last third",
    ),
    "scores_failing": Code(
        "fault",
        "the target metric fails on training crops, or on held-out files",
        f"more than {_T.failing_share:.0%} of the crops; any epoch that lacks the score of a held-out file",
    ),
    "non_finite": Code(
        "fault",
        "losses or gradients that are not finite, of either network, in training or validation",
        "any; updates of either network that were left out though no score failed",
    ),
    "pesq_wait": Code(
        "sign", "steps wait for PESQ", f"more than {_T.pesq_wait_share:.0%} of the time of a step in the last third"
    ),
    "data_wait": Code(
        "sign", "steps wait for data", f"more than {_T.data_wait_share:.0%} of the time of a step in the last third"
    ),
    "too_little_data": Code(
        "unknown",
        "too few records to conclude from",
        f"fewer than {_T.fewest_losses} discriminator losses (of a run: {_T.fewest_steps} steps) "
        f"and fewer than {_T.fewest_epochs} epochs with a score",
    ),
    "healthy": Code("good", "none of the rules found anything", "no other finding"),
}


def code_for(code: str, metric: Scale) -> str:
    """Return the code of a rule on the target metric; for a metric other than PESQ, `score` replaces `pesq` in it."""
    return code if metric.name == PESQ.name else code.replace("pesq", "score")


def _general(of: Code) -> Code:
    """Generalise a code for PESQ to another target metric."""
    return replace(
        of,
        meaning=of.meaning.replace("validation PESQ fell", "the validation score got worse").replace("PESQ", "scores"),
        rule=of.rule.replace(" MOS", f" / {PESQ.span:g} of the metric's range").replace(
            "below", "on the worse side of"
        ),
    )


CODES: dict[str, Code] = {
    name: of
    for code, found in _CODES.items()
    for name, of in ((code, found), (code.replace("pesq", "score"), _general(found) if "pesq" in code else found))
}
"""Every code with its meaning, the most severe first. Codes that name PESQ have a second form with `score` in its
place, for runs with another target metric."""


@dataclass(frozen=True)
class Finding:
    """One result of a rule.

    Attributes:
        code: one of `CODES`.
        text: a sentence with its values.
    """

    code: str
    text: str

    @property
    def level(self) -> Level:
        """Severity of the finding."""
        return CODES[self.code].level
