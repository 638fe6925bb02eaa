"""The order of a step on the host."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest

from cmgan_jax.benchmarking.material import make_crops
from cmgan_jax.benchmarking.workload import SwitchedScorer
from cmgan_jax.data.pipeline import Crops
from cmgan_jax.recipes import make_config, override
from cmgan_jax.training import stepper as stepper_module
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.score_targets import PendingTargets, TargetScorer
from cmgan_jax.training.state import initialise
from cmgan_jax.training.stepper import Stepper
from cmgan_jax.training.steps import Steps, compile_steps

# Without conformers: quick to compile.
SMALL = override(
    make_config("recommended", "tiny"),
    {
        "generator.blocks": 0,
        "generator.dense_depth": 1,
        "data.crop_seconds": 0.25,
        "targets.workers": 1,
        "health.adversarial_every": 3,
    },
)


class Watched(SwitchedScorer):
    """Constant scores, and what was asked of it."""

    constant = True

    def __init__(self) -> None:
        super().__init__(SMALL.targets, SMALL.batch, 0, 16_000)
        self.asked = threading.Event()
        self.steps: list[int] = []

    def submit(self, step: int, clean: np.ndarray, estimate: np.ndarray) -> PendingTargets:
        self.steps.append(step)
        self.asked.set()
        return super().submit(step, clean, estimate)


def batch_of(step: int) -> Crops:
    crops = make_crops(SMALL.batch, SMALL.data.crop_seconds, 16_000)
    return {"clean": np.roll(crops["clean"], step, axis=0), "noisy": np.roll(crops["noisy"], step, axis=0)}


@pytest.fixture(scope="module")
def programs() -> tuple[Placement, Steps]:
    put = Placement(jax.devices()[:1])
    return put, compile_steps(SMALL, put)


def start(programs: tuple[Placement, Steps], scorer: TargetScorer) -> Stepper:
    """Every test's, with programs that are compiled once."""
    put, steps = programs
    return Stepper(SMALL, put, scorer, put.replicate(initialise(SMALL)), steps)


@pytest.mark.slow
def test_scoring_begins_while_a_backward_pass_holds_the_caller(programs: tuple[Placement, Steps]) -> None:
    """As on a CPU, where a program runs in the thread that calls it: it ends here when scores were asked for."""
    with Watched() as scorer:
        stepper = start(programs, scorer)
        backward, seen = stepper._steps.backward, []

        def held(*arguments: Any) -> Any:
            seen.append(scorer.asked.wait(timeout=30))
            return backward(*arguments)

        stepper._steps = stepper._steps._replace(backward=held)
        measured = stepper(batch_of(0), 0, 0)
    assert seen == [True]
    assert measured.report is not None
    assert measured.report.mean == 2.5


@pytest.mark.slow
def test_scores_are_waited_for_when_the_next_forward_pass_is_under_way(
    programs: tuple[Placement, Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps; what a device is given, in order, and where the caller waits in between."""
    order: list[str] = []

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any) -> Any:
            order.append(name)
            return call(*arguments)

        return noting

    monkeypatch.setattr(PendingTargets, "collect", noted("wait", PendingTargets.collect))
    with Watched() as scorer:
        stepper, batches = start(programs, scorer), [batch_of(step) for step in range(2)]
        stepper._steps = type(stepper._steps)(*map(noted, stepper._steps._fields, stepper._steps))
        stepper(batches[0], 0, 0, following=batches[1])
        stepper(batches[1], 1, 0)
    assert order == ["forward", "backward", "forward", "wait", "update", "backward", "wait", "update"]
    assert scorer.steps == [0, 1]


@pytest.mark.slow
def test_looking_ahead_changes_no_number(programs: tuple[Placement, Steps]) -> None:
    """Three steps with it and without: parameters, averages, moments and what was measured, bit for bit.

    The third step asks for the parts of the gradient, too.
    """
    found = []
    for ahead in (True, False):
        with Watched() as scorer:
            stepper, batches = start(programs, scorer), [batch_of(step) for step in range(3)]
            told = [
                stepper(batch, step, 0, following=batches[step + 1] if ahead and step < 2 else None).read()[0]
                for step, batch in enumerate(batches)
            ]
            found.append((jax.device_get(stepper.state), [numbers | {"score_wait_ms": 0.0} for numbers in told]))
    assert "adversarial_share" in found[0][1][2]
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.slow
def test_the_wait_for_scores_is_that_of_devices_not_of_the_host(
    programs: tuple[Placement, Steps], monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    """The end of the last program that a device was given: from then on a wait counts, here in 100 s."""
    asked: list[float] = []

    def computed(result: jax.Array) -> float:
        asked.append(float(result))
        return time.monotonic() + 100.0

    monkeypatch.setattr(stepper_module, "_when_computed", computed)
    with Watched() as scorer:
        stepper, batches = start(programs, scorer), [batch_of(step) for step in range(2)]
        measured = stepper(batches[0], 0, 0, following=batches[1] if ahead else None)
        last = stepper._ahead.forward.loss if stepper._ahead else measured.metrics["generator_loss"]
        stepper._aside.shutdown()
    assert asked == [float(last)]
    assert measured.waited == 0.0


@pytest.mark.slow
def test_another_batch_than_was_announced_is_refused(programs: tuple[Placement, Steps]) -> None:
    with Watched() as scorer:
        stepper = start(programs, scorer)
        stepper(batch_of(0), 0, 0, following=batch_of(1))
        with pytest.raises(ValueError, match="not the one that the step before was told would follow"):
            stepper(batch_of(1), 1, 0)


@pytest.mark.slow
def test_the_discriminator_is_taught_every_so_many_steps(programs: tuple[Placement, Steps]) -> None:
    """Steps 0 and 2 are scored and teach; step 1 leaves the discriminator's weights as they are."""
    put, steps = programs
    config = override(SMALL, {"targets.every": 2})
    with Watched() as scorer:
        stepper = Stepper(config, put, scorer, put.replicate(initialise(config)), steps)
        weights, told = [jax.device_get(stepper.state.discriminator.params)], []
        for step in range(3):
            measured = stepper(batch_of(step), step, 0)
            told.append(measured.read()[0])
            weights.append(jax.device_get(stepper.state.discriminator.params))
            assert bool(measured.failures) is False
    assert scorer.steps == [0, 2]
    same = [jax.tree.all(jax.tree.map(np.array_equal, *pair)) for pair in pairwise(weights)]
    assert same == [False, True, False]
    assert ["score" in values for values in told] == [True, False, True]
    assert all(np.isfinite(values["generator_loss"]) for values in told)


@pytest.mark.slow
def test_a_generator_alone_learns_from_the_other_terms(programs: tuple[Placement, Steps]) -> None:
    """As with a discriminator whose term has no weight, which is what the programs of both give for one step."""
    put, _ = programs
    alone = override(SMALL, {"targets.every": 0, "loss.adversarial": 0.0})
    beside = override(SMALL, {"loss.adversarial": 0.0})
    found = []
    for config in (alone, beside):
        with Watched() as scorer:
            stepper = Stepper(config, put, scorer, put.replicate(initialise(config)))
            values, pairs = stepper(batch_of(0), 0, 0).read()
            found.append((values, pairs, jax.device_get(stepper.state), scorer.steps))
    (values, pairs, state, asked), (others, _, other, _) = found
    assert asked == []
    assert len(pairs.predicted) == 0
    assert not {"score", "discriminator_loss", "loss_adversarial"} & set(values)
    assert values["generator_loss"] == pytest.approx(others["generator_loss"], rel=1e-6)
    for mine, its in zip(jax.tree.leaves(state.generator.params), jax.tree.leaves(other.generator.params), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-5)
    start = jax.device_get(initialise(alone))
    jax.tree.map(np.testing.assert_array_equal, state.discriminator.params, start.discriminator.params)
