"""Metrics as targets: the mapping worked by hand, the built-in ones, and what is refused of a metric of one's own."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmgan_jax import metrics
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.built_in import BUILT_IN
from cmgan_jax.metrics.protocol import PESQ, Metric, NoScore, Scale
from cmgan_jax.metrics.registry import check_metric, find_metric, trial_pair

RATE = 16_000
CLEAN, NOISY = trial_pair(RATE)
DISTANCE = Scale("distance", 2.0, 10.0, "dB", higher_is_better=False)
METRIC = """
import time
import numpy as np
from cmgan_jax.metrics import NoScore

class Mine:
    name, low, high, unit, higher_is_better = "mine", 0.0, 2.0, "sone", False

    def score(self, clean, estimate, sample_rate):
        return float(np.abs(clean - estimate).mean())

mine = Mine()
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a module of a metric in the working directory; gives the metric's specification."""
    monkeypatch.chdir(tmp_path)
    names = iter(range(100))

    def written(before: str = "", after: str = "", text: str = METRIC) -> str:
        assert before in text
        name = f"metric_{tmp_path.name.replace('-', '_')}_{next(names)}"
        (tmp_path / f"{name}.py").write_text(text.replace(before, after) if before else text)
        return f"{name}:mine"

    return written


def test_targets_of_pesq_are_those_of_the_published_code_bit_for_bit() -> None:
    scores = np.random.default_rng(0).uniform(0.9, 4.7, 1000)
    np.testing.assert_array_equal(PESQ.target(scores, clip=False), (scores - 1.0) / 3.5)
    np.testing.assert_array_equal(PESQ.target(scores, clip=True), np.clip((scores - 1.0) / 3.5, 0.0, 1.0))


def test_lower_scores_have_higher_targets_where_lower_is_better() -> None:
    """Of a range from 2 to 10: (10 - 4) / 8 = 0.75; 1 is better than the best of it, 12 worse than the worst."""
    scores = np.array([2.0, 4.0, 10.0, 1.0, 12.0, np.nan])
    np.testing.assert_array_equal(DISTANCE.target(scores, clip=False), [1, 0.75, 0, 1.125, -0.25, np.nan])
    np.testing.assert_array_equal(DISTANCE.target(scores, clip=True), [1, 0.75, 0, 1, 0, np.nan])
    np.testing.assert_array_equal(DISTANCE.score_of(np.array([1.0, 0.75, 0.0])), [2.0, 4.0, 10.0])
    assert DISTANCE.is_better(3.0, 4.0)
    assert not DISTANCE.is_better(4.0, 3.0)
    assert not DISTANCE.is_better(3.0, 3.0)
    assert DISTANCE.range_in_words == "The targets 0 and 1 are a distance of 10 dB and 2 dB."


def test_scores_map_back_from_targets() -> None:
    scores = np.array([1.0, 2.75, 4.5])
    np.testing.assert_array_equal(PESQ.score_of(PESQ.target(scores, clip=False)), scores)
    assert PESQ.range_in_words == "The targets 0 and 1 are a PESQ of 1 MOS and 4.5 MOS."
    assert (PESQ.named(2.5), DISTANCE.named(2.5)) == ("PESQ 2.50", "distance 2.50 dB")


def test_a_run_records_its_metric_and_runs_of_earlier_versions_are_of_pesq() -> None:
    assert Scale.of_run({"target_metric": DISTANCE.to_dict()}) == DISTANCE
    assert Scale.of_run({"config": {}}) == PESQ
    with pytest.raises(UserError, match=r"target_metric is {'name': 'a'}.*put back"):
        Scale.of_run({"target_metric": {"name": "a"}})


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_metric_is_the_function_of_its_name(name: str) -> None:
    """Expected: what `cmgan_jax.metrics` gives; composite scores are made of PESQ."""
    metric = find_metric(name)
    assert isinstance(metric, Metric)
    assert metric.name == name
    found = metric.score(CLEAN, NOISY, RATE)
    if name in ("csig", "cbak", "covl"):
        expected = getattr(metrics.composite(CLEAN, NOISY, metrics.pesq(CLEAN, NOISY, RATE), RATE), name)
    else:
        expected = getattr(metrics, name)(CLEAN, NOISY)
    # PESQ of float32 samples, as the pool gives it, is not quite that of float64 ones.
    assert found == pytest.approx(expected, rel=1e-4)
    assert metric.score(CLEAN, CLEAN + 100 * (NOISY - CLEAN), RATE) < found
    assert metric.higher_is_better


@pytest.mark.parametrize(
    ("name", "clean", "estimate", "reason"),
    [
        ("pesq", np.zeros_like(CLEAN), NOISY, "silent_reference"),
        ("covl", np.zeros_like(CLEAN), NOISY, "silent_reference"),
        ("csig", CLEAN[:3_000], NOISY[:3_000], "too_short"),
        ("stoi", CLEAN[:4_000], NOISY[:4_000], "too_little_speech"),
        ("estoi", CLEAN[:4_000], NOISY[:4_000], "too_little_speech"),
    ],
)
def test_what_a_built_in_metric_cannot_score_has_a_reason(
    name: str, clean: np.ndarray, estimate: np.ndarray, reason: str
) -> None:
    with pytest.raises(NoScore) as raised:
        BUILT_IN[name].score(clean, estimate, RATE)
    assert raised.value.reason == reason


def test_a_metric_of_one_s_own_is_found_in_the_working_directory(write: Callable[..., str]) -> None:
    expected = Scale("mine", 0.0, 2.0, "sone", higher_is_better=False)
    assert check_metric(write(), 10.0) == expected
    # A class without arguments will do.
    assert check_metric(write("mine = Mine()", "mine = Mine"), 10.0) == expected


@pytest.mark.parametrize("answer", ["np.float32(0.5)", "np.array(0.5)", "1"])
def test_a_score_may_be_a_number_of_any_library(write: Callable[..., str], answer: str) -> None:
    assert check_metric(write("return float(np.abs(clean - estimate).mean())", f"return {answer}"), 10.0).name == "mine"


def test_a_metric_may_have_no_score_of_the_trial_pair(write: Callable[..., str]) -> None:
    assert check_metric(write("return float", "raise NoScore('no_speech')\n        return float"), 10.0).name == "mine"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('"mine", 0.0', '"", 0.0', "its `name` is ''"),
        ('"mine", 0.0', '"my metric", 0.0', "its `name` is 'my metric'"),
        ('"mine", 0.0', '"pesq", 0.0', "that of a built-in metric; give it another name"),
        ('"mine", 0.0', '"mine", "a"', "its `low` is 'a'; let it be a finite number"),
        ("2.0", "float('inf')", "its `high` is inf"),
        ("2.0", "-1.0", "its `low` is 0.0 and its `high` is -1.0"),
        ('"sone"', "None", "its `unit` is None"),
        ("False", "0", "its `higher_is_better` is 0; let it be True or False"),
        ("name, low", "named, low", "it has no `name`"),
        ("def score", "def scored", "it has no `score`"),
        ("mine = Mine()", "ours = Mine()", "has no mine; name one of its metrics"),
        ("mine = Mine()", "1 / 0", "raised ZeroDivisionError: division by zero; mend the module"),
        ("mine = Mine()", "import nowhere_at_all", "cannot be imported .*nowhere_at_all.*PYTHONPATH"),
        ("return float", "return str", "gave '0.0.*; let it return a number"),
        ("return float", "return bool", "gave True; let it return a number"),
        (".mean())", ".mean()) and None", "gave None; let it return a number"),
        ("return float(np.abs(clean - estimate).mean())", "return clean", "gave array.*; let it return a number"),
        ("return float", "return np.nan * float", "gave nan; let it return a finite number"),
        ("return float", "return clean.nothing, float", "raised AttributeError: .*nothing.*let it raise NoScore"),
        ("return float", "time.sleep(60)\n        return float", "gave no answer in 0.5 s; make it faster, or raise"),
    ],
)
def test_a_metric_that_cannot_work_is_refused_with_reason_and_remedy(
    write: Callable[..., str], before: str, after: str, reason: str
) -> None:
    specification = write(before, after)
    began = time.monotonic()
    with pytest.raises(UserError, match=reason) as raised:
        check_metric(specification, 0.5)
    assert str(raised.value).startswith(f"--targets.metric {specification}: ")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["stoy", "my module:metric", "module:", ":metric", "module.metric"])
def test_a_name_that_no_metric_has_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"choose one of pesq, stoi, .*or name your own as my_module:my_metric"):
        find_metric(name)
