"""A discriminator that is one step late: what it learns when, and that a resume changes nothing."""

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmgan_jax.benchmarking.material import make_corpus, make_crops
from cmgan_jax.config import Config
from cmgan_jax.evaluation.weights import load_checkpoint
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs import Checkpoint
from cmgan_jax.scoring.pesq_score import Failure, Score, failed
from cmgan_jax.training.checkpoint import CheckpointStore, restore
from cmgan_jax.training.display import Display
from cmgan_jax.training.launch import Wishes, launch
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.pesq_targets import PendingTargets, TargetScorer
from cmgan_jax.training.records import read_metrics
from cmgan_jax.training.state import TrainState, initialise
from cmgan_jax.training.stepper import Measured, Stepper
from cmgan_jax.training.steps import WHOLE, compile_steps

# Without conformers: quick to compile.
LATE = override(
    make_config("recommended", "tiny"),
    {
        "generator.blocks": 0,
        "generator.dense_depth": 1,
        "data.crop_seconds": 0.25,
        "epochs": 2,
        "steps_per_epoch": 2,
        "targets.late_discriminator": True,
        "health.adversarial_every": 0,
    },
)


class LateScores(TargetScorer):
    """Scores that arrive when the next batch is submitted and never before; made of what is scored."""

    def __init__(self, config: Config):
        self._config = config.targets
        self._waiting: list[tuple[Future[Score], Score]] = []

    def submit(self, step: int, clean: np.ndarray, estimate: np.ndarray) -> PendingTargets:
        for future, score in self._waiting:
            future.set_result(score)
        scores = [Score(1.0 + float(np.abs(wave[step]) % 3), None, 0.0) for wave in estimate + clean]
        # One fails in every second step.
        scores[0] = failed(Failure.injected) if step % 2 else scores[0]
        self._waiting = [(Future(), score) for score in scores]
        return PendingTargets([future for future, _ in self._waiting], self._config.policy, self._config.clip)


def batch_of(step: int) -> Any:
    crops = make_crops(LATE.batch, LATE.data.crop_seconds, 16_000)
    return {name: np.roll(crops[name], step, axis=0) for name in ("clean", "noisy")}


@pytest.fixture(scope="module")
def placement() -> Placement:
    return Placement(jax.devices()[:2])


def stepper(placement: Placement, state: Any) -> Stepper:
    return Stepper(LATE, placement, LateScores(LATE), placement.replicate(state))


def same(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))


@pytest.fixture(scope="module")
def unbroken(placement: Placement) -> tuple[list[Measured], list[TrainState]]:
    """Four steps: what each measured, and what a checkpoint after it would hold."""
    stepping = stepper(placement, initialise(LATE))
    measured, states = [], []
    for step in range(4):
        measured.append(stepping(batch_of(step), step, 0))
        states.append(jax.device_get(stepping.snapshot()))
    return measured, states


def test_a_step_learns_what_the_one_before_left(placement: Placement, unbroken: Any) -> None:
    """The three programs by hand: forward and backward on this batch, the exact update on the last one's."""
    measured, states = unbroken
    programs, put = compile_steps(LATE, placement), placement
    rates = [put.replicate(jnp.float32(rate)) for rate in (5e-4, 1e-3)]
    exact = override(LATE, {"targets.late_discriminator": False})
    state, magnitudes = put.replicate(initialise(exact)), None
    for step in range(4):
        forward = programs.forward(state.generator, put.split(batch_of(step)))
        generator, average, judged, _ = programs.backward(
            *(state.generator, state.average, state.discriminator, forward),
            *(put.replicate(jnp.float32(WHOLE)), rates[0]),
        )
        judge = replace(state.discriminator, batch_stats=judged)
        if magnitudes is None:
            # Nothing to learn yet; the step counts.
            judge = replace(judge, step=judge.step + 1)
        else:
            targets = measured[step].targets
            arrays = put.split(targets.value), put.split(targets.weight), put.replicate(np.asarray(targets.made))
            judge, _ = programs.update(judge, *magnitudes, *arrays, rates[1])
        state = TrainState(generator, judge, average)
        magnitudes = forward.clean_magnitude, forward.estimate_magnitude
        same(state, replace(states[step], unlearnt=None))


def test_scores_are_those_of_the_step_before(unbroken: Any) -> None:
    """Step 1's batch has a failure, which step 2 learns of; the first step learns nothing, and nothing failed."""
    measured, states = unbroken
    assert [one.report.failures for one in measured] == [{}, {}, {"injected": 1}, {}]
    assert [one.targets.made for one in measured] == [False, True, True, True]
    first, _ = measured[0].read()
    assert (first["discriminator_update"], first["valid_share"]) == (0.0, 1.0)
    assert np.isfinite([first["discriminator_loss"], first["discriminator_gradient_norm"]]).all()
    numbers, pairs = measured[2].read()
    assert (numbers["valid_share"], len(pairs.true)) == (0.75, 3)
    left = states[1].unlearnt
    expected = [1.0 + float(np.abs(wave[1]) % 3) for wave in left.estimate + left.clean]
    np.testing.assert_allclose(measured[2].report.pesq[1:], expected[1:])


@pytest.mark.parametrize("step", [1, 2])
def test_a_resumed_run_does_the_same(placement: Placement, unbroken: Any, tmp_path: Path, step: int) -> None:
    """From a checkpoint on disk; also with other devices than wrote it, up to rounding."""
    _, states = unbroken
    store = CheckpointStore(tmp_path)
    store.save(step, states[step - 1], {})
    assert store.failure(wait=True) is None
    store.close()
    restored = restore(Checkpoint(tmp_path, "latest", step), LATE, placement)
    same(restored, states[step - 1])
    resumed = stepper(placement, restored)
    for later in range(step, 4):
        resumed(batch_of(later), later, 0)
        same(resumed.snapshot(), states[later])


def test_a_run_is_saved_in_the_middle_and_resumed(tmp_path: Path) -> None:
    """With real scores, saves in and at the end of an epoch: parameters, records and discriminator are the same."""
    config = replace(LATE, save_every="1steps", log_every=1)
    corpus = make_corpus(tmp_path / "corpus", config)
    train: Callable[..., Any] = partial(launch, config, corpus, display=Display())
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(wishes=Wishes(whole, devices=1))
    # As after a kill in step 4: step 3's checkpoint is the newest, in the middle of the second epoch.
    shutil.copytree(whole, broken)
    for kind in ("latest", "best"):
        shutil.rmtree(broken / kind / "4", ignore_errors=True)
    train(wishes=Wishes(broken, devices=1, resume=True))
    for name in ("generator", "discriminator"):
        same(getattr(load_checkpoint(broken / "latest"), name), getattr(load_checkpoint(whole / "latest"), name))
    for folder in (whole, broken):
        updates = [record["discriminator_update"] for record in read_metrics(folder, "step")]
        assert updates == [0.0, 1.0, 1.0, 1.0]
    last = [read_metrics(folder, "epoch")[-1] for folder in (whole, broken)]
    assert last[0]["generator_digest"] == last[1]["generator_digest"]
    assert last[0]["train"]["pesq"] == last[1]["train"]["pesq"]
