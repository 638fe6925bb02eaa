"""The training step: devices agree, policies and faults do what they say, nothing compiles twice."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.config import Config
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.models.networks import make_networks
from cmgan_jax.recipes import make_config, override
from cmgan_jax.shapes import AXIS
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.state import TrainState, initialise, rate_factor, start_network
from cmgan_jax.training.steps import (
    compile_steps,
    discriminator_gradient,
    generator_forward,
    generator_gradient,
)
from cmgan_jax.training.update import apply_gradient

TINY = override(make_config("recommended", "tiny"), {"data.crop_seconds": 0.25, "generator.dense_depth": 1})
NETWORKS = make_networks(TINY, AXIS)
RATE = 1e-3


def batch_of(config: Config, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise at speech level; targets that differ by item."""
    rng = np.random.default_rng(seed)
    clean = rng.normal(0, 0.05, (config.batch, config.crop_samples)).astype(np.float32)
    return {"clean": clean, "noisy": clean + rng.normal(0, 0.03, clean.shape).astype(np.float32)}


class Rig:
    """Compiled steps on some devices, and one whole step with given targets."""

    def __init__(self, config: Config, devices: int):
        self.config = config
        self.placement = Placement(jax.devices()[:devices])
        self.programs = compile_steps(config, self.placement)

    def start(self) -> TrainState:
        return self.placement.replicate(initialise(self.config))

    def step(
        self,
        state: TrainState,
        batch: dict[str, np.ndarray],
        weight: np.ndarray | None = None,
        made: bool = True,
        loss: float | None = None,
    ) -> tuple[TrainState, dict[str, Any]]:
        put = self.placement
        rate = put.replicate(jnp.float32(RATE))
        forward = self.programs.forward(state.generator, put.split(batch))
        if loss is not None:
            forward = forward._replace(loss=put.replicate(jnp.float32(loss)))
        generator, average, judged, backward = self.programs.backward(
            state.generator, state.average, state.discriminator, forward, rate
        )
        value = np.linspace(0.2, 0.8, self.config.batch, dtype=np.float32)
        weight = np.ones_like(value) if weight is None else weight.astype(np.float32)
        discriminator, update = self.programs.update(
            replace(state.discriminator, batch_stats=judged),
            forward.clean_magnitude,
            forward.estimate_magnitude,
            put.split(value),
            put.split(weight),
            put.replicate(np.asarray(made)),
            rate,
        )
        return TrainState(generator, discriminator, average), forward.metrics | backward | update


@pytest.fixture(scope="module")
def one() -> Rig:
    return Rig(TINY, 1)


@pytest.fixture(scope="module")
def four() -> Rig:
    return Rig(TINY, 4)


def host(tree: Any) -> list[np.ndarray]:
    """Copies, since states are donated."""
    return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


WHOLE_NETWORK = 1e-4
"""The tolerance of whole networks, whose float32 sums run in another order: on an AMD EPYC entries differ by up to
2.5e-5 (jaxlib 0.10.2), on other machines by less than 1e-5."""


@pytest.mark.slow
def test_devices_agree_on_the_raw_gradients() -> None:
    """1 and 4 devices, the same global batch, dropout on: gradients before Adam, which would hide a wrong scale."""

    def gradients(generator: Any, discriminator: Any, batch: Any, value: Array, weight: Array) -> Any:
        forward = generator_forward(generator, batch, config=TINY, networks=NETWORKS)
        of_generator, judged, _ = generator_gradient(discriminator, forward, config=TINY, networks=NETWORKS)
        moved = replace(discriminator, batch_stats=judged)
        magnitudes = forward.clean_magnitude, forward.estimate_magnitude
        of_judge, _, _ = discriminator_gradient(moved, *magnitudes, value, weight, config=TINY, networks=NETWORKS)
        return of_generator, of_judge, forward.stats

    found = []
    for devices in (1, 4):
        placement = Placement(jax.devices()[:devices])
        state = placement.replicate(initialise(TINY))
        mapped = placement.map(gradients, (None, None, 0, 0, 0), None)
        # Unequal weights: a mean of the devices' means would differ from the mean over the batch.
        weights = np.asarray([1, 0, 0, 1], np.float32)
        operands = placement.split(batch_of(TINY)), placement.split(weights * 0.5), placement.split(weights)
        found.append(mapped(state.generator, state.discriminator, *operands))
    for single, several in zip(*found, strict=True):
        # Of the largest entry: small ones are differences of sums as large as it.
        scale = max(np.max(np.abs(leaf)) for leaf in host(single))
        for a, b in zip(host(single), host(several), strict=True):
            np.testing.assert_allclose(b / scale, a / scale, rtol=0, atol=WHOLE_NETWORK)


@pytest.mark.slow
def test_replicas_stay_equal_and_nothing_compiles_twice(traced: list[str]) -> None:
    rig = Rig(TINY, 4)
    state = rig.start()
    for seed in range(20):
        state, _ = rig.step(state, batch_of(TINY, seed))
    assert traced == ["features", "apply_gradient", "apply_gradient"]
    for leaf in jax.tree.leaves(state):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == 4
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0])


@pytest.mark.slow
def test_gradient_norms_are_those_of_the_losses() -> None:
    """Norms beside the gradients of a loss without the adversarial term, and of one with nothing else.

    They may be asked for again, and neither network is changed: nothing is donated.
    """
    small = override(TINY, {"generator.blocks": 0, "generator.dense_depth": 1})
    rig = Rig(small, 2)
    put, state = rig.placement, rig.start()
    batch = put.split(batch_of(small))
    forward = rig.programs.forward(state.generator, batch)
    nothing = {"loss.ri": 0.0, "loss.magnitude": 0.0, "loss.time": 0.0}
    without = override(small, {"loss.adversarial": 0.0}), override(small, nothing)
    first, second = (rig.programs.norms(state.discriminator, forward) for _ in range(2))
    assert first == second
    for name, config in zip(("others_norm", "adversarial_norm"), without, strict=True):
        gradient = put.map(
            lambda generator, judge, batch, config=config: generator_gradient(
                judge,
                generator_forward(generator, batch, config=config, networks=make_networks(config, AXIS)),
                config=config,
                networks=make_networks(config, AXIS),
            )[0],
            (None, None, 0),
            None,
        )(state.generator, state.discriminator, batch)
        expected = np.linalg.norm(np.concatenate([leaf.ravel() for leaf in host(gradient)]))
        assert float(first[name]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_the_judge_s_dropout_is_of_the_seed_the_step_and_its_purpose() -> None:
    """The adversarial term again, from the network alone: a key folded with the step, then with 1."""
    small = override(TINY, {"generator.blocks": 0, "generator.dense_depth": 1})
    rig = Rig(small, 1)
    put, state = rig.placement, rig.start()
    state = replace(state, discriminator=replace(state.discriminator, step=put.replicate(jnp.int32(3))))
    forward = rig.programs.forward(state.generator, put.split(batch_of(small)))
    arguments = state.generator, state.average, state.discriminator, forward
    *_, metrics = rig.programs.backward(*arguments, put.replicate(jnp.float32(RATE)))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(small.seed), 3), 1)
    finding, _ = jax.vmap(
        partial(
            Discriminator(small.discriminator, AXIS).apply,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        ),
        (None, 0, 0),
        axis_name=AXIS,
    )(
        {"params": state.discriminator.params, "batch_stats": state.discriminator.batch_stats},
        forward.clean_magnitude,
        forward.estimate_magnitude,
    )
    expected = np.mean((np.asarray(finding) - 1.0) ** 2)
    assert float(metrics["loss_adversarial"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_skip_leaves_everything_and_logs_exactly_zero(one: Rig) -> None:
    state = one.start()
    before = host((state.discriminator.params, state.discriminator.opt_state))
    state, metrics = one.step(state, batch_of(TINY), made=False)
    for old, new in zip(before, host((state.discriminator.params, state.discriminator.opt_state)), strict=True):
        np.testing.assert_array_equal(old, new)
    assert float(metrics["discriminator_loss"]) == 0.0
    assert float(metrics["discriminator_update"]) == 0.0
    assert int(state.discriminator.step) == 1


@pytest.mark.slow
def test_weightless_targets_still_teach_clean_speech(one: Rig) -> None:
    """Policy `mask` with no valid score: the estimate's term is 0, the reference's goes on."""
    state = one.start()
    before = host(state.discriminator.params)
    state, metrics = one.step(state, batch_of(TINY), weight=np.zeros(TINY.batch))
    assert float(metrics["discriminator_loss_estimate"]) == 0.0
    assert float(metrics["discriminator_loss_clean"]) > 0.0
    assert float(metrics["discriminator_update"]) == 1.0
    changed = [not np.array_equal(a, b) for a, b in zip(before, host(state.discriminator.params), strict=True)]
    assert any(changed)


@pytest.mark.slow
def test_non_finite_batch_changes_no_parameter_on_any_device(four: Rig) -> None:
    state = four.start()
    bad = batch_of(TINY)
    bad["noisy"][2, 100] = np.nan
    kept = host(
        (state.generator.params, state.generator.batch_stats, state.generator.opt_state, state.discriminator.params)
    )
    state, metrics = four.step(state, bad)
    after = host(
        (state.generator.params, state.generator.batch_stats, state.generator.opt_state, state.discriminator.params)
    )
    for old, new in zip(kept, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert float(metrics["generator_update"]) == 0.0
    state, metrics = four.step(state, batch_of(TINY))
    assert float(metrics["generator_update"]) == 1.0
    assert np.isfinite(float(metrics["generator_loss"]))


@pytest.mark.parametrize("loss", [np.inf, np.nan])
@pytest.mark.slow
def test_a_loss_that_is_not_finite_makes_no_update_either(one: Rig, loss: float) -> None:
    """Its gradient is finite here: the loss alone is replaced."""
    before = jax.device_get(one.start().generator.params)
    state, metrics = one.step(one.start(), batch_of(TINY), loss=loss)
    assert np.isfinite(metrics["generator_gradient_norm"])
    assert metrics["generator_update"] == 0.0
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.generator.params), before)


@pytest.mark.slow
def test_silence_and_constant_input_give_finite_updates(one: Rig) -> None:
    for level in (0.0, 0.1):
        batch = {name: np.full((TINY.batch, TINY.crop_samples), level, np.float32) for name in ("clean", "noisy")}
        state, metrics = one.step(one.start(), batch)
        assert float(metrics["generator_update"]) == 1.0
        assert all(np.isfinite(leaf).all() for leaf in host(state))


@pytest.mark.slow
def test_average_follows_its_formula(one: Rig) -> None:
    """decay = min(ema_decay, (1 + n) / (10 + n)): 0.1 at the first step."""
    state = one.start()
    start = host(state.average)
    state, _ = one.step(state, batch_of(TINY))
    for first, mean, moved in zip(start, host(state.average), host(state.generator.params), strict=True):
        np.testing.assert_allclose(mean, 0.1 * first + 0.9 * moved, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_statistics_of_separate_batchnorm_are_the_first_device_s() -> None:
    """As published: each device normalises by its own statistics, and device 0's are kept."""
    config = override(TINY, {"optimiser.cross_device_batchnorm": False})
    batch = batch_of(config)
    found = []
    for devices, rows in ((4, 4), (1, 1)):
        placement = Placement(jax.devices()[:devices])
        state = placement.replicate(initialise(config))
        statistics = placement.map(partial(_statistics, config=config), (None, 0), None)
        part = placement.split({name: audio[:rows] for name, audio in batch.items()})
        found.append(host(statistics(state.generator, part)))
    for several, single in zip(*found, strict=True):
        np.testing.assert_allclose(several, single, rtol=1e-4, atol=1e-6)


def _statistics(generator: Any, batch: Any, *, config: Config) -> Any:
    return generator_forward(generator, batch, config=config, networks=make_networks(config, AXIS)).stats


def test_adamw_is_torch_s() -> None:
    """One scalar by hand: m = 0.1 g, v = 0.001 g², both unbiased to g and g²; p - r (g / (|g| + ε) + 0.01 p)."""
    config = override(TINY, {"optimiser.clip_norm": 0.0})
    params = {"w": jnp.asarray(2.0)}
    state = start_network({"params": params, "batch_stats": {}}, config.optimiser)
    moved, metrics = apply_gradient(state, {"w": jnp.asarray(-3.0)}, {}, jnp.asarray(0.5), jnp.asarray(True), config)
    # 1 - 0.999 in float32 is off by 4.7e-5, its root by half of that: 1.2e-5 of the step of 0.5.
    assert float(moved.params["w"]) == pytest.approx(2.0 - 0.5 * (-1.0 + 0.01 * 2.0), abs=1.2e-5)
    assert float(metrics["gradient_norm"]) == 3.0


def test_clipping_bounds_what_adam_sees() -> None:
    """Adam's first moment after one step is 0.1 of the gradient it saw: norm 3 clipped to 1.5."""
    config = override(TINY, {"optimiser.clip_norm": 1.5})
    params = {"w": jnp.asarray(2.0)}
    state = start_network({"params": params, "batch_stats": {}}, config.optimiser)
    moved, metrics = apply_gradient(state, {"w": jnp.asarray(3.0)}, {}, jnp.asarray(0.5), jnp.asarray(True), config)
    moments = [np.asarray(leaf) for leaf in jax.tree.leaves(moved.opt_state)]
    assert any(leaf == pytest.approx(0.15, rel=1e-5) for leaf in moments)
    assert float(metrics["gradient_norm"]) == 3.0


@pytest.mark.parametrize("slope", [np.inf, np.nan])
def test_a_gradient_that_is_not_finite_changes_nothing_but_the_count(slope: float) -> None:
    """Whatever the loss is."""
    state = start_network({"params": {"w": jnp.asarray(2.0)}, "batch_stats": {}}, TINY.optimiser)
    moved, metrics = apply_gradient(state, {"w": jnp.asarray(slope)}, {}, jnp.asarray(0.5), jnp.asarray(True), TINY)
    assert float(moved.params["w"]) == 2.0
    jax.tree.map(np.testing.assert_array_equal, moved.opt_state, state.opt_state)
    assert (int(moved.step), float(metrics["update"])) == (1, 0.0)


@pytest.mark.slow
def test_time_reference_of_the_published_head() -> None:
    """The two recipes' time losses differ as their clean references do: computed here from the estimate itself."""
    batch = batch_of(TINY)
    for recipe in ("normalised", "unnormalised"):
        config = replace(TINY, loss=replace(TINY.loss, time_reference=recipe))
        placement = Placement(jax.devices()[:1])
        state = placement.replicate(initialise(config))
        forward = placement.map(partial(_audio_and_loss, config=config), (None, 0), (0, None))
        audio, loss = forward(state.generator, placement.split(batch))
        factor = np.sqrt(TINY.crop_samples / np.sum(batch["noisy"] ** 2, axis=1, keepdims=True))
        clean = batch["clean"] * (factor if recipe == "normalised" else 1)
        assert float(loss) == pytest.approx(np.mean(np.abs(np.asarray(audio)[0] - clean)), rel=1e-5)


def _audio_and_loss(generator: Any, batch: Any, *, config: Config) -> tuple[Array, Array]:
    forward = generator_forward(generator, batch, config=config, networks=make_networks(config, AXIS))
    return forward.estimate, forward.metrics["loss_time"]


def test_rates_halve_by_epoch() -> None:
    """Published schedule: halved every 30 epochs."""
    published = make_config("published_2022").optimiser
    assert [rate_factor(published, epoch) for epoch in (0, 29, 30, 59, 60, 119)] == [1, 1, 0.5, 0.5, 0.25, 0.125]
