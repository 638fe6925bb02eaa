"""Candidates for a small model: their costs, equal processor time, and the table."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import pytest

from cmgan_jax.comparison.outcome import FinishedRun
from cmgan_jax.errors import UserError
from cmgan_jax.models.generator import Generator
from cmgan_jax.recipes import make_config
from cmgan_jax.system.outputs import write_json
from experiments import sizes
from experiments.sizes import CANDIDATES, Cost, Train, config_of, measure, read_costs, runs_of, table

COST = Cost(parameters=12_345, gmacs=0.5, enhance=0.04, real_time_factor=0.025, step=0.5, audio=8.192)


def costs_of(step: dict[str, float]) -> dict[str, Cost]:
    return {candidate.name: replace(COST, step=step.get(candidate.name, 0.5)) for candidate in CANDIDATES}


def train(tmp_path: Path, seconds: float) -> Train:
    return Train(sizes=tmp_path / "sizes.json", seconds=seconds, out=tmp_path / "runs", speech=(), noise=())


def test_candidates_are_small_and_can_be_built() -> None:
    """At most 0.4 M parameters each; shapes alone are computed."""
    base = make_config(preset="small")
    for candidate in CANDIDATES:
        config = config_of(candidate, base)
        noisy = jax.ShapeDtypeStruct((1, 8, config.spectral.bins), "complex64")
        shapes: Any = jax.eval_shape(Generator(config.generator).init, jax.random.key(0), noisy)
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) <= 400_000, candidate.name


def test_a_candidate_of_twice_the_cost_gets_half_the_steps(tmp_path: Path) -> None:
    """300 s are 600 steps of 0.5 s, in three epochs of 200; 1 s a step leaves 100."""
    items = {item.variant: item for item in runs_of(train(tmp_path, 300), costs_of({"33-bins": 1.0}))}
    assert items["small"].config.steps_per_epoch == 200
    assert items["33-bins"].config.steps_per_epoch == 100
    assert {item.config.epochs for item in items.values()} == {3}


def test_too_little_time_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too little for 3 steps"):
        runs_of(train(tmp_path, 1), costs_of({}))
    with pytest.raises(UserError, match="lacks small: measure again"):
        runs_of(train(tmp_path, 300), {name: cost for name, cost in costs_of({}).items() if name != "small"})
    write_json(tmp_path / "other.json", {"costs": {"small": {"parameters": 3}}})
    with pytest.raises(UserError, match=r"other\.json holds no costs"):
        read_costs(tmp_path / "other.json")


def test_costs_survive_their_file(tmp_path: Path) -> None:
    write_json(tmp_path / "sizes.json", {"costs": {"small": asdict(COST)}})
    assert read_costs(tmp_path / "sizes.json") == {"small": COST}


def test_the_table_has_costs_and_the_mean_over_seeds_of_the_last_validation() -> None:
    """By hand: 8.192 s of audio in 0.5 processor seconds are 16.4; PESQ (2.0 + 2.1) / 2; without runs a dash."""

    def ended(seed: int, pesq: float | None) -> FinishedRun:
        first = {"epoch": 1, "validation": {"pesq": 1.0, "si_sdr": 1.0, "loss": 1.0}}
        return FinishedRun(
            "small", seed, [first, {"epoch": 2, "validation": {"pesq": pesq, "si_sdr": 12.0, "loss": 0.2}}], 2, {}
        )

    rows = table({"small": COST, "33-bins": COST}, [ended(0, 2.0), ended(1, 2.1), ended(2, None)]).splitlines()
    assert rows[2] == "| small | 12,345 | 0.50 | 0.025 | 0.50 | 16.4 | 2.050 | 12.0 | 0.2000 |"
    assert rows[3] == "| 33-bins | 12,345 | 0.50 | 0.025 | 0.50 | 16.4 | – | – | – |"


def test_a_candidate_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of preset tiny: parameters as its arrays have them, audio as its crops do; times are positive."""
    monkeypatch.setattr(sizes, "REPEATS", 1)
    config = make_config(preset="tiny")
    cost = measure(config)
    noisy = jax.ShapeDtypeStruct((1, 8, config.spectral.bins), "complex64")
    shapes: Any = jax.eval_shape(Generator(config.generator).init, jax.random.key(0), noisy)
    assert cost.parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert cost.audio == 4 * 0.5
    assert min(cost.gmacs, cost.enhance, cost.real_time_factor, cost.step) > 0
