"""Findings: for each rule a synthetic history that fires it, and one that must not."""

from typing import Any

import numpy as np
import pytest

from cmgan_jax.diagnosis.evidence import cannot_tell
from cmgan_jax.diagnosis.history import History, Source
from cmgan_jax.diagnosis.rules import CODES, RULES, Thresholds, apply_rules
from cmgan_jax.metrics.protocol import PESQ, Scale

STEPS, EPOCHS = 60, 12


def steps(**changed: Any) -> dict[str, np.ndarray]:
    """Step records of a run in which nothing is wrong; `changed` are columns or one number for all rows."""
    usual: dict[str, Any] = {
        "step": 20 * np.arange(1, STEPS + 1),
        "epoch": 1 + np.arange(STEPS) // 5,
        "generator_loss": 0.06,
        "generator_update": 1.0,
        "discriminator_loss": 0.02,
        "discriminator_update": 1.0,
        "discriminator_loss_zero": 0.0,
        "discriminator_loss_small": 0.02,
        "valid_share": 1.0,
        "target_spread": 0.12,
        "rank_correlation": 0.8,
        "calibration_error": 0.05,
        "adversarial_share": 0.1,
        "level_db": -0.3,
        "score_wait_ms": 20.0,
        "data_wait_ms": 5.0,
        "step_ms": 900.0,
    }
    return {name: np.broadcast_to(np.asarray(of, float), STEPS) for name, of in (usual | changed).items()}


def epochs(**changed: Any) -> dict[str, np.ndarray]:
    """Epoch records of a run in which nothing is wrong: PESQ rises, losses fall."""
    at = np.arange(EPOCHS)
    usual: dict[str, Any] = {
        "epoch": 1 + at,
        "validation.score": 2.9 - 0.5 * 0.7**at,
        "validation.loss": 0.05 + 0.03 * 0.7**at,
        "validation.rank_correlation": 0.85,
        "validation.calibration_error": 0.04,
    }
    names = {name.replace("__", "."): of for name, of in changed.items()}
    return {name: np.broadcast_to(np.asarray(of, float), EPOCHS) for name, of in (usual | names).items()}


def run(numbers: Any = None, epoch: Any = None, **step: Any) -> History:
    return History(Source("run", settings=numbers or {}), steps(**step), epochs(**(epoch or {})))


def text_of(history: History, code: str) -> str:
    """What the one finding says; no other may be there."""
    findings = apply_rules(history)
    assert [finding.code for finding in findings] == [code]
    return findings[0].text


def test_nothing_is_said_of_a_healthy_run() -> None:
    text = text_of(run(), "healthy")
    assert "2.89 in epoch 12" in text  # 2.9 - 0.5 * 0.7 ** 11


# What a record holds that no share tells: each alone must be named, in the step records or, where these are missing, in
# the epochs'.
SIGNS: dict[str, tuple[str, dict[str, Any], str]] = {
    "steps that were not finite": ("non_finite", {"not_finite": np.arange(STEPS) * 18.0}, "1062 steps"),  # 59 * 18
    "one of them": ("non_finite", {"not_finite": [*(STEPS - 1) * [0.0], 1.0]}, "1 steps"),
    "the discriminator's updates": ("non_finite", {"discriminator_update": 0.1}, "90.00% of the discriminator's"),
    "those beside skipped ones": (
        "non_finite",
        {"discriminator_update": 0.98, "discriminator_loss_zero": 0.01},
        "1.00% of the discriminator's",
    ),
    "the generator's updates": ("non_finite", {"generator_update": 0.1}, "90.00% of the generator's"),
    "scores by reason alone": ("scores_failing", {"valid_share": np.nan, "failures.timeout": 2.0}, "timeout 120"),
    "clean speech": ("discriminator_miscalibrated", {"clean_score": 0.3}, "clean speech 0.30"),
}


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("recorded", ["steps", "epochs"])
def test_every_number_that_says_that_something_is_wrong_is_read(sign: str, recorded: str) -> None:
    code, changed, words = SIGNS[sign]
    history = run(**changed)
    if recorded == "epochs":
        # An epoch may end before a window does: its means are all that there is.
        of_epochs = {f"train.{name}": of[4::5] for name, of in history.steps.items() if name not in ("step", "epoch")}
        history = History(
            history.source, {}, dict(history.epochs) | {"step": 100.0 * (1 + np.arange(EPOCHS))} | of_epochs
        )
        words = words.replace("timeout 120", "timeout 24")  # 2 in each of 12
    assert words in text_of(history, code)


def test_skipped_updates_are_not_called_otherwise() -> None:
    """Under `skip` an update whose score failed is left out, and its loss recorded as 0."""
    assert text_of(run(discriminator_update=0.9, discriminator_loss_zero=0.1), "skipped_updates")
    # No other policy leaves one out, whatever else an early revision did not record.
    unknown = {"discriminator_loss_zero": np.nan, "discriminator_loss_small": np.nan, "discriminator_update": 0.9}
    codes = [of.code for of in apply_rules(run({"targets.policy": "mask"}, **unknown))]
    assert "non_finite" in codes


def test_few_windows_of_many_steps_are_enough() -> None:
    """A run that records every 300 steps has four records after 1200."""
    few = {name: of[:4] for name, of in steps(step=300 * np.arange(1, STEPS + 1), discriminator_loss_zero=1.0).items()}
    assert [of.code for of in apply_rules(History(Source(), few, epochs()))] == ["skipped_updates"]


def epoch_records(*validations: dict[str, Any], **noisy: Any) -> History:
    """A run's epoch records after its healthy steps."""
    usual = {"pesq": 2.5, "loss": 0.05, "si_sdr": 9.0, "scored": 6, "files": 6, "rank_correlation": 0.8}
    usual |= {"calibration_error": 0.05}
    records = [
        {"kind": "epoch", "epoch": i, "step": 100 * i, "train": {}, "validation": usual | of}
        | {"noisy": {"pesq": 2.0, "scored": 6} | noisy}
        for i, of in enumerate(validations, 1)
    ]
    return History(Source(), steps(), History.from_records(records).epochs)


@pytest.mark.parametrize(
    ("validations", "code", "words"),
    [
        ([{}, {}, {}, {}, {"pesq": None, "scored": 0}], "scores_failing", "epoch 5 (in epoch 5 0 of 6)"),
        ([{}, {}, {}, {}, {"pesq": None}, {"pesq": None}], "scores_failing", "in epochs 5 to 6"),
        ([{}, {"pesq": 2.9, "scored": 2}, {}, {}, {}], "scores_failing", "epoch 2 (in epoch 2 2 of 6): the rules on"),
        ([{}, {"pesq": 2.9, "complete": False}, {}, {}, {}], "scores_failing", "in epoch 2"),
        ([{}, {}, {}, {}, {"loss": None}], "non_finite", "the validation loss is no finite number in epoch 5"),
        ([{}, {}, {}, {}, {"loss": float("inf")}], "non_finite", "no finite number in epoch 5"),
        ([{}, {}, {}, {}, {"si_sdr": None}], "non_finite", "the validation SI-SDR is no finite number in epoch 5"),
        ([*5 * [{"rank_correlation": None}]], "discriminator_uninformative", "all the same on held-out files"),
        ([{}, {}, *3 * [{"rank_correlation": None}]], "discriminator_uninformative", "there is no order"),
        ([*5 * [{"pesq": 1.9}]], "worse_than_noisy", "a PESQ of 1.90, and as they are, noisy, of 2.00"),
        ([*5 * [{}]], "healthy", "2.50 in epoch 5"),
        ([{"rank_correlation": None}, *4 * [{}]], "healthy", "2.50 in epoch 5"),
    ],
)
def test_what_validation_lacks_is_named(validations: list[dict[str, Any]], code: str, words: str) -> None:
    assert words in text_of(epoch_records(*validations), code)


def test_a_mean_over_some_files_has_no_part_in_a_collapse() -> None:
    """Two easy files of six score 3.4 in epoch 4; over all six nothing fell."""
    part = {"pesq": 3.4, "scored": 2}
    assert [of.code for of in apply_rules(epoch_records(*4 * [{}], part, *4 * [{}]))] == ["scores_failing"]
    # Where two cannot be scored even noisy, four are all.
    assert text_of(epoch_records(*5 * [{"scored": 4}], scored=4), "healthy")


def test_records_written_twice_count_once_and_lost_ones_are_noted() -> None:
    records = [
        {"kind": "epoch", "epoch": epoch, "step": 10 * epoch, "validation": {"pesq": pesq}}
        for epoch, pesq in ((1, 2.0), (2, 2.1), (2, 2.3), (5, 2.4))
    ]
    history = History.from_records(records)
    assert history.score.tolist() == [2.0, 2.3, 2.4]
    assert "how epochs 3 to 4 ended: no record of it is there" in cannot_tell(history)


# Which column departs from the healthy run, a value on each side of the threshold, and what the text must hold.
CASES: dict[str, tuple[str, float, float, str]] = {
    "skipped_updates": ("discriminator_loss_zero", 0.03, 0.01, "3.0%"),
    "discriminator_converged": ("discriminator_loss_small", 0.56, 0.3, "56%"),
    "targets_constant": ("target_spread", 0.0, 0.02, "targets constant"),
    "adversarial_dominates": ("adversarial_share", 0.7, 0.4, "70%"),
    "output_level": ("level_db", -3.6, 1.5, "output 3.6 dB too quiet"),
    "scores_failing": ("valid_share", 0.8, 0.995, "20.0%"),
    "non_finite": ("generator_update", 0.99, 1.0, "1.00%"),
    "pesq_wait": ("score_wait_ms", 300.0, 200.0, "300 ms"),
    "data_wait": ("data_wait_ms", 300.0, 200.0, "300 ms"),
}


@pytest.mark.parametrize("code", CASES)
def test_a_rule_on_steps(code: str) -> None:
    column, beyond, within, words = CASES[code]
    assert words in text_of(run(**{column: beyond}), code)
    assert text_of(run(**{column: within}), "healthy")


@pytest.mark.parametrize(
    ("code", "column", "beyond", "within", "words"),
    [
        ("discriminator_uninformative", "validation__rank_correlation", 0.12, 0.4, "rank correlation 0.12 on held-out"),
        ("discriminator_miscalibrated", "validation__calibration_error", 0.2, 0.1, "off by 0.70 MOS"),  # 3.5 x 0.2
        ("validation_loss_rising", "validation__loss", [*[0.06] * 6, *[0.08] * 6], 0.06, "from 0.0600"),
        ("loss_collapse", "validation__loss", [*[0.06] * 6, *[0.13] * 6], 0.06, "since epoch 7, from 0.0600"),
    ],
)
def test_a_rule_on_validation(code: str, column: str, beyond: Any, within: Any, words: str) -> None:
    assert words in text_of(run(epoch={column: beyond}), code)
    assert text_of(run(epoch={column: within}), "healthy")


def test_without_validation_the_steps_tell_of_the_ranking() -> None:
    history = run(rank_correlation=0.1)
    assert text_of(history, "healthy")  # validation knows better
    unknown = {"validation__rank_correlation": np.nan}
    assert "on training crops" in text_of(run(epoch=unknown, rank_correlation=0.1), "discriminator_uninformative")


def test_every_rule_has_a_case_and_every_code_a_rule() -> None:
    tested = {
        *CASES,
        "discriminator_uninformative",
        "discriminator_miscalibrated",
        "validation_loss_rising",
        "loss_collapse",
    }
    tested |= {"pesq_collapse", "loss_pesq_divergence", "worse_than_noisy"}
    assert {rule.__name__ for rule in RULES} == tested
    general = {code.replace("pesq", "score") for code in tested}
    assert {*tested, *general, "too_little_data", "healthy"} == set(CODES)


def test_texts_name_the_policy_and_the_reasons() -> None:
    assert "batch-mean policy" in text_of(run({"targets.policy": "batch_mean"}, target_spread=0.0), "targets_constant")
    # A batch of one has no spread, whatever the policy.
    assert text_of(run({"batch": 1}, target_spread=0.0), "healthy")
    assert "policy skip" in text_of(run({"targets.policy": "skip"}, discriminator_loss_zero=0.5), "skipped_updates")
    failing = {"failures.timeout": 1, "failures.silent": 2}
    assert "(silent 120, timeout 60)" in text_of(run(valid_share=0.9, **failing), "scores_failing")  # in 60 rows
    quiet = text_of(run({"loss.time_reference": "unnormalised"}, level_db=-3.6), "output_level")
    assert "un-normalised clean" in quiet


def test_skips_are_known_without_the_share_of_zeros() -> None:
    """Records of an older run have the share of updates made alone."""
    unknown = {"discriminator_loss_zero": np.nan, "discriminator_loss_small": np.nan}
    assert "20.0%" in text_of(run(discriminator_update=0.8, **unknown), "skipped_updates")
    assert text_of(run(discriminator_update=1.0, **unknown), "healthy")


# --- collapse ----------------------------------------------------------------------------------------------

RISE = [2.45, 2.50, 2.54, 2.58, 2.60, 2.64]
FALL = [2.15, 2.05, 2.2, 2.0, 2.1, 2.12]


def test_the_account_s_collapse() -> None:
    history = run(epoch={"validation__score": RISE + FALL, "validation__rank_correlation": 0.35})
    collapse, divergence = apply_rules(history)
    assert (collapse.code, divergence.code) == ("pesq_collapse", "loss_pesq_divergence")
    # The last three epochs have a mean of 2.0733, and 2.64 - 2.0733 = 0.567.
    for part in ("best was 2.64 (epoch 6)", "epochs 10 to 12", "0.57 below", "since epoch 7", "2.00 and 2.20"):
        assert part in collapse.text
    assert "fell 0.57 below its best (epoch 6) while validation loss fell" in divergence.text
    assert "rank correlation with true PESQ is 0.35" in divergence.text


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        # 2.64 and 2.10 of PESQ (the last three epochs have a mean of 2.07) as shares of another range.
        (Scale("stoi", 0.0, 1.0), "validation STOI collapsed: the best was 0.47 (epoch 6)"),
        (Scale("far", 0.0, 35.0, "dB", higher_is_better=False), "validation far collapsed: the best was 18.60"),
    ],
)
def test_thresholds_are_the_same_shares_of_another_metric_s_range(metric: Scale, words: str) -> None:
    """By hand: (2.64 - 1) / 3.5 = 0.469; 35 - 10 (2.64 - 1) = 18.60. Nothing may say PESQ."""

    def findings(pesq: list[float], **step: float) -> list[Any]:
        scores = metric.score_of(PESQ.target(np.array(pesq), clip=False))
        columns = epochs(validation__score=scores, validation__rank_correlation=0.35)
        return list(apply_rules(History(Source("run", metric=metric), steps(**step), columns)))

    collapse, divergence = findings(RISE + FALL)
    assert (collapse.code, divergence.code) == ("score_collapse", "loss_score_divergence")
    assert words in collapse.text
    assert f" {metric.worse}" in collapse.text
    assert findings(RISE + RISE[::-1])[0].code == "healthy"
    (waits,) = findings(RISE + RISE, score_wait_ms=300.0)
    assert waits.code == "score_wait"
    for finding in (collapse, divergence, waits, *findings(RISE + FALL, valid_share=0.5, clean_score=0.3)):
        assert "pesq" not in f"{finding.code} {finding.text}".lower()
        assert finding.level in ("collapse", "fault", "sign")


def test_a_lower_score_than_that_of_noisy_files_is_better_where_lower_is_better() -> None:
    metric = Scale("far", 0.0, 35.0, "dB", higher_is_better=False)
    for noisy, codes in ((20.0, ["healthy"]), (5.0, ["worse_than_noisy"])):
        columns = epochs(validation__score=10.0) | {"noisy.score": np.full(EPOCHS, noisy)}
        assert [of.code for of in apply_rules(History(Source("run", metric=metric), steps(), columns))] == codes


def test_a_collapse_with_a_rising_loss_is_no_divergence() -> None:
    loss = np.linspace(0.05, 0.056, EPOCHS)
    history = run(epoch={"validation__score": RISE + FALL, "validation__loss": loss})
    assert text_of(history, "pesq_collapse")


@pytest.mark.parametrize("known", range(7, 13))
def test_a_collapse_is_named_while_it_happens(known: int) -> None:
    """From the first epoch after the fall on; not before."""
    pesq = np.array(RISE + FALL)

    def codes(count: int) -> list[str]:
        columns = {name: of[:count] for name, of in epochs(validation__score=pesq).items()}
        return [finding.code for finding in apply_rules(History(Source(), steps(), columns))]

    assert "pesq_collapse" in codes(known)
    assert codes(6) == ["healthy"]


def test_one_bad_epoch_is_no_collapse() -> None:
    pesq = [*RISE, 2.2, 2.66, 2.67, 2.69, 2.68, 2.70]
    assert text_of(run(epoch={"validation__score": pesq}), "healthy")


def noisy(rng: np.random.Generator, count: int, noise: float) -> np.ndarray:
    """A healthy curve: it saturates, and every epoch is off by itself."""
    at = np.arange(1, count + 1)
    return 3.2 - 1.2 * np.exp(-at / rng.uniform(3, 15)) + rng.normal(0, noise, count)


@pytest.mark.parametrize(("noise", "allowed"), [(0.05, 0), (0.1, 2), (0.15, 3)])
def test_noise_is_no_collapse(noise: float, allowed: int) -> None:
    """False alarms in 150 healthy trainings of 8 to 120 epochs. In 2000 each: none up to 0.05, 0.15 % beyond."""
    rng = np.random.default_rng(7)
    alarms = 0
    for i in range(150):
        pesq = noisy(rng, (8, 30, 120)[i % 3], noise)
        columns = {"epoch": 1 + np.arange(pesq.size), "validation.score": pesq}
        alarms += apply_rules(History(Source(), steps(), columns))[0].code == "pesq_collapse"
    assert alarms <= allowed


def test_a_collapse_is_seen_through_noise() -> None:
    """Falls of 0.5 on average under a noise of 0.03: all of 100."""
    rng = np.random.default_rng(8)
    for _ in range(100):
        fallen = rng.uniform(2.0, 2.2, rng.integers(3, 12))
        pesq = np.concatenate([np.linspace(2.45, 2.64, 7), fallen])
        pesq = pesq + rng.normal(0, 0.03, pesq.size)
        columns = {"epoch": 1 + np.arange(pesq.size), "validation.score": pesq}
        assert apply_rules(History(Source(), steps(), columns))[0].code == "pesq_collapse"


# --- how much is enough ------------------------------------------------------------------------------------


def test_little_data_is_said_to_be_little() -> None:
    few = {name: of[:3] for name, of in steps(discriminator_loss_zero=1.0).items()}
    assert "3 windows up to step 60" in text_of(History(Source(), few, {}), "too_little_data")
    assert text_of(History(), "too_little_data")
    log = {name: few[name] for name in ("step", "epoch", "discriminator_loss")}
    assert "3 discriminator losses (at least 10" in text_of(History(Source("log"), log, {}), "too_little_data")
    four = {name: of[:4] for name, of in epochs().items()}
    assert text_of(History(Source(), {}, four), "healthy")


def test_a_run_that_has_hardly_begun_is_not_judged_by_what_it_cannot_know() -> None:
    """12 steps: an untrained generator is too quiet, and every crop has the lowest score."""
    early = steps(
        step=np.arange(STEPS), level_db=-6.0, target_spread=0.001, calibration_error=0.5, rank_correlation=0.0
    )
    assert text_of(History(Source(), early, {}), "too_little_data")
    policy = Source(settings={"targets.policy": "batch_mean"})
    assert [of.code for of in apply_rules(History(policy, early, {}))] == ["targets_constant", "too_little_data"]


def test_without_pesq_healthy_says_what_it_does_not_cover() -> None:
    assert "no validation PESQ" in text_of(History(Source(), steps(), {}), "healthy")


def test_thresholds_can_be_chosen() -> None:
    assert apply_rules(run(level_db=-3.6), Thresholds(level_db=4.0))[0].code == "healthy"
