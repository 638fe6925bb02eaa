"""Other metrics than PESQ in the scoring processes, and as targets: each fault costs one score, and has a reason."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pesq
import pytest

from cmgan_jax.config import TargetConfig
from cmgan_jax.errors import UserError
from cmgan_jax.metrics import scoring_pool
from cmgan_jax.metrics.pesq_score import Failure
from cmgan_jax.metrics.registry import find_metric, trial_pair
from cmgan_jax.metrics.scoring_pool import ScorePool
from cmgan_jax.training.score_targets import TargetScorer

RATE = 16_000
CLEAN, NOISY = trial_pair(RATE)
FAULTY = """
import os, time
from cmgan_jax.metrics import NoScore

class Faulty:
    name, low, high, unit, higher_is_better = "faulty", 0.0, 2.0, "sone", False

    def score(self, clean, estimate, sample_rate):
        # What happens is told by the first sample of the estimate.
        fault = round(float(estimate[0]))
        if fault == 1:
            raise RuntimeError("broken")
        if fault == 2:
            return float("nan")
        if fault == 3:
            time.sleep(60)
        if fault == 4:
            os._exit(1)
        if fault == 5:
            raise NoScore("no speech: here!")
        clean[:] = 0
        return 0.5

faulty = Faulty()
"""
RAISES, IS_NAN, HANGS, DIES, HAS_A_REASON = 1, 2, 3, 4, 5


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "faulty_metric.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(scoring_pool.sys.modules, "faulty_metric", raising=False)
    return "faulty_metric:faulty"


@pytest.fixture
def pool(faulty: str) -> Iterator[ScorePool]:
    with ScorePool(1, time_limit=2.0, metric=faulty) as pool:
        yield pool


def told(fault: int) -> np.ndarray:
    estimate = NOISY.copy()
    estimate[0] = fault
    return estimate


@pytest.mark.parametrize("name", ["stoi", "si_sdr", "covl"])
def test_a_worker_gives_what_the_metric_gives(name: str) -> None:
    with ScorePool(1, time_limit=30, metric=name) as pool:
        assert pool.score(CLEAN, NOISY).result().value == find_metric(name).score(CLEAN, NOISY, RATE)
        # PESQ beside it, the package's own numbers.
        assert pool.score(CLEAN, NOISY, metric="pesq").result().value == pesq.pesq(RATE, CLEAN, NOISY, "wb")
        with pytest.raises(ValueError, match=f"the metric is estoi, but this pool scores {name} and pesq"):
            pool.score(CLEAN, NOISY, metric="estoi")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (RAISES, "metric_error"),
        (IS_NAN, "undefined"),
        (HANGS, "timeout"),
        (DIES, "worker_crash"),
        (HAS_A_REASON, "no_speech_here"),
    ],
)
def test_a_fault_of_the_metric_costs_the_one_score(pool: ScorePool, fault: int, reason: str) -> None:
    futures = [pool.score(CLEAN, told(of)) for of in (0, fault, 0)]
    scores = [future.result(timeout=30) for future in futures]
    assert [score.failure for score in scores] == [None, reason, None]
    assert [scores[0].value, scores[2].value] == [0.5, 0.5]
    assert np.isnan(scores[1].value)
    if fault == HANGS:
        assert 2.0 <= scores[1].seconds < 4.0


def test_what_pesq_cannot_score_another_metric_may(pool: ScorePool) -> None:
    """A silent estimate has no PESQ; NaN has no score of any kind, and no worker is asked."""
    silence = np.zeros_like(NOISY)
    assert pool.score(CLEAN, silence).result().value == 0.5
    assert pool.score(CLEAN, silence, metric="pesq").result().failure is Failure.silent_estimate
    score = pool.score(CLEAN, np.append(NOISY[1:], np.float32(np.nan))).result()
    assert (score.failure, score.seconds) == (Failure.non_finite, 0)


def test_a_metric_that_only_its_program_can_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bound_metric.py").write_text(f"import os\nassert os.getpid() == {os.getpid()}\n{FAULTY}")
    monkeypatch.syspath_prepend(tmp_path)
    find_metric("bound_metric:faulty")
    with pytest.raises(UserError, match=r"bound_metric:faulty cannot be imported in a process of its own.*module"):
        ScorePool(1, time_limit=2.0, metric="bound_metric:faulty")


def test_a_lower_score_is_a_higher_target(faulty: str) -> None:
    """0.5 of a range from 0 to 2 whose lower end is the best: (2 - 0.5) / 2 = 0.75. What failed has no weight."""
    clean, estimates = np.stack([CLEAN] * 3), np.stack([told(0), told(HAS_A_REASON), told(0)])
    with TargetScorer(TargetConfig(workers=1, metric=faulty), batch=3, seed=0, sample_rate=RATE) as scorer:
        targets, report = scorer.submit(0, clean, estimates).collect()
    np.testing.assert_array_equal(targets.value, [0.75, 0.75, 0.75])
    np.testing.assert_array_equal(targets.weight, [1, 0, 1])
    np.testing.assert_array_equal(report.scores, [0.5, np.nan, 0.5])
    np.testing.assert_array_equal(report.true, [0.75, np.nan, 0.75])
    assert report.failures == {"no_speech_here": 1}
    assert report.mean == 0.5
