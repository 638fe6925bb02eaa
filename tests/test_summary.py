"""Summaries of scores: what is averaged, how sure the mean is, and what is named because it is missing."""

import json
import math

import numpy as np
import pytest

from cmgan_jax.evaluation.scores import FileScores
from cmgan_jax.evaluation.summary import Statistic, summarise, to_json


def make(name: str, pesq: float | None, reason: str = "PESQ killed its process") -> FileScores:
    values = {"ssnr": 5.0} | ({} if pesq is None else {"pesq": pesq})
    return FileScores(name, values, {} if pesq is not None else {"pesq": reason})


def test_summary_averages_what_there_is_and_names_the_rest():
    # Closed forms: mean and sample deviation of 1, 2, 3; a constant has an interval of no width.
    summary = summarise([make("a", 1.0), make("b", None), make("c", 2.0), make("d", 3.0)])
    pesq, ssnr = summary.statistics["pesq"], summary.statistics["ssnr"]
    assert (pesq.mean, pesq.std, pesq.n) == (2.0, 1.0, 3)
    assert (ssnr.mean, ssnr.std, ssnr.low, ssnr.high, ssnr.n) == (5.0, 0.0, 5.0, 5.0, 4)
    assert summary.lines() == ["3 scored of 4", "b: no pesq: PESQ killed its process"]
    assert summarise([make("b", None)]).statistics["pesq"] == Statistic(None, None, None, None, 0)
    assert summarise([make("a", 1.5)]).statistics["pesq"] == Statistic(1.5, None, None, None, 1)


def test_bootstrap_interval_is_that_of_theory_and_repeats():
    # Central limit theorem: half a width of 1.96 deviations / sqrt(n), within 4 % at 10,000 resamples.
    values = np.random.default_rng(0).normal(3.0, 0.5, size=500)
    files = [make(str(i), float(value)) for i, value in enumerate(values)]
    pesq = summarise(files).statistics["pesq"]
    assert pesq.mean is not None
    assert pesq.low is not None
    assert pesq.high is not None
    half = 1.96 * values.std() / math.sqrt(500)
    assert pesq.high - pesq.mean == pytest.approx(half, rel=0.04)
    assert pesq.mean - pesq.low == pytest.approx(half, rel=0.04)
    assert summarise(files).statistics["pesq"] == pesq
    assert summarise(files, seed=1).statistics["pesq"] != pesq


def test_json_has_null_and_a_reason_and_no_nan():
    files = [make("a", 1.0), make("b", None)]
    text = json.dumps(to_json(files, summarise(files)), allow_nan=False)
    found = json.loads(text)
    assert found["files"][1] == {
        "name": "b",
        "pesq": None,
        "ssnr": 5.0,
        "reasons": {"pesq": "PESQ killed its process"},
        "notes": [],
    }
    assert found["summary"]["pesq"] == {"mean": 1.0, "std": None, "low": None, "high": None, "n": 1}
    assert (found["scored"], found["total"], found["scale"]) == (1, 2, "16-bit")
    assert found["missing"] == [{"name": "b", "metrics": ["pesq"], "reason": "PESQ killed its process"}]
    assert to_json([], summarise([]), published_scale=True)["scale"] == "published ([-1, 1])"
