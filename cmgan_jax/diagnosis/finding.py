"""What a rule says, and the values at which it says it."""

from dataclasses import dataclass, replace
from typing import Literal

from cmgan_jax.metrics.protocol import PESQ, Scale

Level = Literal["collapse", "fault", "sign", "unknown", "good"]
"""How grave: the training went wrong; a cause to be mended; worth watching; nothing can be said; nothing is wrong."""


@dataclass(frozen=True)
class Thresholds:
    """Every number that a rule compares with; texts name those that were crossed.

    Those in MOS are for PESQ; of another target metric a difference counts that is the same share of its range.
    """

    fewest_losses: int = 10
    """Discriminator losses without which nothing is said of their distribution."""
    fewest_steps: int = 100
    """Steps of a run before which its discriminator, its targets and its level are not diagnosed."""
    fewest_epochs: int = 4
    """Epochs with a validation score without which a log without steps tells too little."""
    skipped_share: float = 0.02
    """Share of discriminator updates left out."""
    small_loss: float = 1e-3
    """A discriminator loss that counts as small: an error of 0.03, a tenth of a MOS."""
    converged_share: float = 0.4
    """Share of small losses among the updates made, over all or over the last third."""
    constant_spread: float = 0.005
    """Standard deviation of a batch's targets (0 to 1) at which they count as constant."""
    collapse_drops: tuple[float, ...] = (0.4, 0.3, 0.2)
    """MOS by which the mean of the last 1, 2 and 3 epochs lies below the best (mean of 3 neighbouring epochs)."""
    collapse_noises: tuple[float, ...] = (8.0, 6.0, 4.0)
    """The same in standard deviations of the epoch-to-epoch noise; both must be exceeded."""
    divergence_drop: float = 0.15
    """MOS by which the last 3 epochs lie below the best while the loss fell."""
    divergence_noise: float = 4.0
    """The same in standard deviations of the noise."""
    rising_loss: float = 0.15
    """Relative rise of the validation loss above its lowest (means of 3 epochs)."""
    rising_noise: float = 5.0
    """The same in standard deviations of the noise."""
    collapsed_loss: float = 1.0
    """Relative rise of the validation loss at which the training counts as collapsed."""
    uninformative_correlation: float = 0.3
    """Rank correlation of predicted with true scores below which the discriminator tells the generator nothing."""
    calibration_error: float = 0.15
    """Mean absolute error of predicted against true targets (0 to 1); of PESQ half a MOS."""
    clean_score: float = 0.5
    """Mean of what the discriminator gives clean speech, which it is taught to give 1. Short trainings end above it."""
    dominant_share: float = 0.5
    """Share of the generator's gradient that comes from the adversarial term."""
    level_db: float = 2.0
    """Output level against clean, either way."""
    failing_share: float = 0.01
    """Share of scores that failed."""
    pesq_wait_share: float = 0.25
    """Share of a step's time spent waiting for scores."""
    data_wait_share: float = 0.25
    """Share of a step's time spent waiting for data."""


@dataclass(frozen=True)
class Code:
    """A finding's code as it is documented.

    Attributes:
        level: how grave.
        meaning: what it says, in a line.
        rule: when it is said, with the threshold.
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
    """The code of a rule on the target metric: where that is not PESQ, the code says `score` instead of `pesq`."""
    return code if metric.name == PESQ.name else code.replace("pesq", "score")


def _general(of: Code) -> Code:
    """What a code of PESQ means for another target metric."""
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
"""Every code with its meaning, gravest first. Those that name PESQ have a second form, in which `score` takes its
place: for runs whose target metric is another."""


@dataclass(frozen=True)
class Finding:
    """A finding.

    Attributes:
        code: one of `CODES`.
        text: a sentence with its values.
    """

    code: str
    text: str

    @property
    def level(self) -> Level:
        """How grave it is."""
        return CODES[self.code].level
