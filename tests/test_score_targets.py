"""Targets: the four policies' arithmetic, worked out by hand, and failures made on purpose."""

import math
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cmgan_jax.config import Policy, TargetConfig
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.pesq_score import Failure, Score, failed
from cmgan_jax.metrics.protocol import PESQ
from cmgan_jax.training import score_targets
from cmgan_jax.training.score_targets import (
    INJECT_BATCH_FAILURES,
    INJECT_FAILURES,
    PendingTargets,
    TargetScorer,
    draw_injected,
    fill,
    injection_shares,
)

POLICIES: tuple[Policy, ...] = ("mask", "mean_fill", "batch_mean", "skip")
# (2.75 - 1) / 3.5 = 0.5, (4.5 - 1) / 3.5 = 1, (1 - 1) / 3.5 = 0; mean of the three: 0.5; of the last two: 0.5.
LOW, MIDDLE, HIGH = (Score(value, None, 0.02) for value in (1.0, 2.75, 4.5))
FAILED = failed(Failure.timeout, 10.0)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch):
    for name in (INJECT_FAILURES, INJECT_BATCH_FAILURES):
        monkeypatch.delenv(name, raising=False)


def bursts(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    on = np.arange(8_000) % 4_000 >= 2_000
    clean = rng.normal(size=(batch, 8_000)) * 0.1 * on
    return clean.astype(np.float32), (clean + rng.normal(size=clean.shape) * 0.01).astype(np.float32)


def test_targets_of_known_scores():
    # 4.64 is about the best PESQ there is: (4.64 - 1) / 3.5 = 1.04.
    scores = np.array([1.0, 2.75, 4.5, 4.64, 0.999])
    np.testing.assert_allclose(PESQ.target(scores, clip=True), [0, 0.5, 1, 1, 0])
    np.testing.assert_allclose(PESQ.target(scores, clip=False), [0, 0.5, 1, 1.04, -0.001 / 3.5])


@pytest.mark.parametrize(
    ("policy", "value", "weight", "made"),
    [
        ("mask", [1.0, 0.75, 0.5], [1, 0, 1], True),
        ("mean_fill", [1.0, 0.75, 0.5], [1, 1, 1], True),
        ("batch_mean", [0.75, 0.75, 0.75], [1, 1, 1], True),
        ("skip", [1.0, 0.75, 0.5], [1, 1, 1], False),
    ],
)
def test_policies_with_a_failed_score(policy: Policy, value: list, weight: list, made: bool):
    targets = fill([HIGH, FAILED, MIDDLE], policy, clip=True)
    np.testing.assert_array_equal(targets.value, value)
    np.testing.assert_array_equal(targets.weight, weight)
    np.testing.assert_array_equal(targets.valid, [True, False, True])
    assert targets.made is made


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_with_nothing_failed(policy: Policy):
    targets = fill([HIGH, LOW], policy, clip=True)
    np.testing.assert_array_equal(targets.value, [0.5, 0.5] if policy == "batch_mean" else [1, 0])
    np.testing.assert_array_equal(targets.weight, [1, 1])
    assert targets.made is True


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_with_everything_failed(policy: Policy):
    targets = fill([FAILED, FAILED], policy, clip=True)
    np.testing.assert_array_equal(targets.value, [0.5, 0.5])
    np.testing.assert_array_equal(targets.weight, [0, 0] if policy == "mask" else [1, 1])
    assert not targets.valid.any()
    assert targets.made is (policy != "skip")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scores", [[FAILED], [HIGH], [FAILED, LOW], []])
def test_targets_are_always_finite_full_and_of_one_type(policy: Policy, scores: list):
    targets = fill(scores, policy, clip=False)
    assert [array.dtype for array in targets[:3]] == [np.float32, np.float32, np.bool_]
    assert [array.shape for array in targets[:3]] == [(len(scores),)] * 3
    assert np.isfinite(targets.value).all()


def test_the_mean_that_fills_is_of_clipped_targets():
    # 4.64 clips to 1, 1.0 to 0: 0.5. Unclipped: 1.04 / 2.
    scores = [Score(4.64, None, 0.0), LOW, FAILED]
    assert fill(scores, "mask", clip=True).value[2] == np.float32(0.5)
    assert fill(scores, "mask", clip=False).value[2] == pytest.approx(0.52)


def test_a_batch_is_scored_and_reported():
    clean, estimate = bursts(3)
    clean[1] = 0
    with TargetScorer(TargetConfig(workers=1), batch=3, seed=0, sample_rate=16_000) as scorer:
        targets, report = scorer.submit(0, clean, estimate).collect()
        raw = [scorer.pool.score(clean[i], estimate[i]).result().value for i in (0, 2)]
    np.testing.assert_array_equal(report.scores, [raw[0], math.nan, raw[1]])
    assert report.failures == {"silent_reference": 1}
    assert report.mean == pytest.approx(sum(raw) / 2)
    assert report.waited > 0
    np.testing.assert_allclose(targets.value[[0, 2]], (np.array(raw) - 1) / 3.5, rtol=1e-6)
    np.testing.assert_array_equal(targets.valid, [True, False, True])


def settled(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def test_only_waiting_devices_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that come from 10 s to 13 s by a clock of its own; devices that were idle before, since 12 s, not yet."""

    def waited(idle: Future[float] | None) -> float:
        with monkeypatch.context() as patch:
            patch.setattr(score_targets, "time", SimpleNamespace(monotonic=iter((10.0, 13.0)).__next__))
            return PendingTargets([settled(LOW)], "mask", clip=True).collect(idle=idle)[1].waited

    at_work: Future[float] = Future()
    told = [waited(idle) for idle in (None, settled(5.0), settled(12.0), settled(14.0), at_work)]
    assert told == [3.0, 3.0, 1.0, 0.0, 0.0]


def test_a_batch_of_another_size_than_configured_is_scored_whole():
    clean, estimate = bursts(2)
    with TargetScorer(TargetConfig(workers=1), batch=3, seed=0, sample_rate=16_000) as scorer:
        assert scorer.submit(0, clean, estimate).collect()[0].value.shape == (2,)


def test_injected_failures_repeat_and_are_reported():
    clean, estimate = bursts(4)
    config = TargetConfig(workers=1, policy="skip", inject_failures=0.5)
    runs = []
    for first in (0, 1):  # the second run was resumed at step 1
        with TargetScorer(config, batch=4, seed=3, sample_rate=16_000) as scorer:
            runs.append({step: scorer.submit(step, clean, estimate).collect() for step in range(first, 3)})
    for run in runs:
        for step, (targets, _) in run.items():
            np.testing.assert_array_equal(targets.valid, ~draw_injected((0.5, 0.0), 4, 3, step))
    for targets, report in runs[0].values():
        failures = int(np.sum(~targets.valid))
        assert report.failures == ({"injected": failures} if failures else {})
        assert targets.made is (failures == 0)
    assert 0 < sum(np.sum(~targets.valid) for targets, _ in runs[0].values()) < 12


def test_everything_injected_leaves_nothing_to_average():
    clean, estimate = bursts(2)
    config = TargetConfig(workers=1, inject_failures=1.0)
    with TargetScorer(config, batch=2, seed=0, sample_rate=16_000) as scorer:
        targets, report = scorer.submit(0, clean, estimate).collect()
    assert math.isnan(report.mean)
    assert np.isnan(report.scores).all()
    np.testing.assert_array_equal(targets.value, [0.5, 0.5])


@pytest.mark.parametrize("share", [0.0, 0.56, 1.0])
def test_injected_shares(share: float):
    # 4,000 draws: the share within 4 standard deviations, at most 0.032.
    samples = np.stack([draw_injected((share, 0.0), 4, 0, step) for step in range(1_000)])
    assert np.mean(samples) == pytest.approx(share, abs=0.032 * (0 < share < 1))
    batches = np.stack([draw_injected((0.0, share), 4, 0, step) for step in range(1_000)])
    assert set(batches.sum(axis=1)) <= {0, 1}
    assert np.mean(batches.any(axis=1)) == pytest.approx(share, abs=0.063 * (0 < share < 1))
    if share:
        assert batches.any(axis=0).all()  # not always the same item


def test_injection_depends_on_seed_and_step_alone():
    def draw(seed: int, step: int) -> bytes:
        return draw_injected((0.5, 0.5), 64, seed, step).tobytes()

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(1, 2), draw(2, 1), draw(1, 3), draw(2, 2), draw(-1, 2)}) == 5


def test_the_environment_replaces_the_config_s_shares():
    config = TargetConfig(inject_failures=0.1, inject_batch_failures=0.2)
    assert injection_shares(config, {}) == (0.1, 0.2)
    assert injection_shares(config, {INJECT_FAILURES: "0.56"}) == (0.56, 0.2)
    assert injection_shares(config, {INJECT_BATCH_FAILURES: "0", INJECT_FAILURES: ""}) == (0.1, 0.0)


@pytest.mark.parametrize("text", ["1.01", "-0.1", "nan", "56 %"])
def test_an_environment_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv(INJECT_FAILURES, text)
    with pytest.raises(UserError, match=f"{INJECT_FAILURES} is '{text}'.*0 to 1"):
        TargetScorer(TargetConfig(workers=1), batch=1, seed=0, sample_rate=16_000)


@pytest.mark.parametrize(
    ("workers", "batch", "expected"),
    [(0, 1, 1), (0, 8, 3), (2, 8, 2), (2, 1, 2)],
)
def test_as_many_workers_as_cores_unless_told(monkeypatch: pytest.MonkeyPatch, workers: int, batch: int, expected: int):
    monkeypatch.setattr(score_targets, "free_cores", lambda: 3)
    with TargetScorer(TargetConfig(workers=workers), batch, seed=0, sample_rate=16_000) as scorer:
        assert len(scorer.pool.pids) == expected
