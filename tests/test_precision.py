"""Computing in bfloat16: what stays float32, how near the results are, and that a run may change its precision."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax import Array

from cmgan_jax.benchmarking.material import make_corpus, make_crops
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.inference.enhancer import Enhancer
from cmgan_jax.models.attention import attend
from cmgan_jax.models.convolution import convolve
from cmgan_jax.models.depthwise import depthwise
from cmgan_jax.models.layers import BatchNorm, Dense, InstanceNorm, LayerNorm, PReLU
from cmgan_jax.models.networks import make_networks
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs.folder import Checkpoint
from cmgan_jax.runs.records import read_kind
from cmgan_jax.shapes import AXIS
from cmgan_jax.training.checkpoint import read_run
from cmgan_jax.training.display import Display
from cmgan_jax.training.launch import RunOptions, launch
from cmgan_jax.training.state import RUN_ONCE, initialise
from cmgan_jax.training.steps import discriminator_gradient, generator_backward, generator_forward, generator_gradient

ROUNDING = 2.0**-9
"""Largest relative error of one rounding to bfloat16: 8 bits of significand, half of the last one."""
SMALL = override(
    make_config("recommended", "tiny"),
    {"generator.dense_depth": 1, "data.crop_seconds": 0.25, "steps_per_epoch": 2, "epochs": 1, "log_every": 1},
)
RNG = np.random.default_rng(0)


def halved(values: Any) -> Array:
    return jnp.asarray(values, jnp.bfloat16)


def distance(found: Any, expected: Any) -> float:
    """Euclidean, relative to the norm of what is expected."""
    one, other = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (found, expected))
    return float(np.linalg.norm(one.astype(np.float64) - other) / np.linalg.norm(other))


@pytest.mark.parametrize(
    "module",
    [LayerNorm(), InstanceNorm(), PReLU(0.3), partial(BatchNorm(4), train=True), partial(BatchNorm(4), train=False)],
    ids=["layer", "instance", "prelu", "batch", "running"],
)
def test_norms_and_slopes_round_once(module: Any) -> None:
    """The result is that of float32 on the same values, rounded; beside a mean of 50, bfloat16 would leave nothing."""
    module, arguments = (module.func, module.keywords) if isinstance(module, partial) else (module, {})
    x = halved(RNG.normal(size=(2, 5, 7, 4)) + 50)
    variables = module.init(jax.random.key(0), x, **arguments)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    apply: Callable[..., Any] = partial(module.apply, variables, mutable=["batch_stats"], **arguments)
    (found, moved), (exact, expected) = apply(x), apply(x.astype(jnp.float32))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))
    jax.tree.map(np.testing.assert_array_equal, moved, expected)


def test_depthwise_sums_its_taps_in_float32() -> None:
    x, kernel = halved(RNG.normal(size=(3, 40, 4))), jnp.asarray(RNG.normal(size=(31, 4)), jnp.float32)
    cotangent = halved(RNG.normal(size=x.shape))
    found, pull = jax.vjp(depthwise, x, kernel)
    exact, pull_exact = jax.vjp(depthwise, x.astype(jnp.float32), kernel)
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))
    of_x, of_kernel = pull(cotangent)
    expected_x, expected_kernel = pull_exact(cotangent.astype(jnp.float32))
    np.testing.assert_array_equal(of_x, expected_x.astype(jnp.bfloat16))
    np.testing.assert_allclose(of_kernel, expected_kernel, rtol=1e-5, atol=1e-5)


def test_bias_gradient_sums_over_positions_in_float32() -> None:
    """20,000 ones: a sum in bfloat16 stops at 256, where 1 is less than half of the last digit."""
    x = jnp.ones((20_000, 2), jnp.bfloat16)
    variables = Dense(3).init(jax.random.key(0), x)

    def total(variables: Any) -> Array:
        return jnp.sum(cast(Array, Dense(3).apply(variables, x)).astype(jnp.float32))

    gradient = cast(dict[str, Any], jax.grad(total)(variables))
    np.testing.assert_array_equal(gradient["params"]["bias"], 20_000.0)


def test_attention_keeps_its_softmax_in_float32() -> None:
    """Value and gradients beside float32 on the same rounded operands: a few roundings, no more."""
    operands = [halved(RNG.normal(size=(5, 2, 40, 8))) for _ in range(3)]
    distances = jnp.asarray(RNG.normal(size=(79, 8)), jnp.float32)
    cotangent = halved(RNG.normal(size=(5, 2, 40, 8)))
    found, pull = jax.vjp(attend, *operands, distances)
    exact, pull_exact = jax.vjp(attend, *(x.astype(jnp.float32) for x in operands), halved(distances).astype(float))
    assert found.dtype == jnp.bfloat16
    # Query scaled, weights, result: three roundings one after the other.
    assert distance(found, exact) < 3 * ROUNDING
    gradients, expected = pull(cotangent), pull_exact(cotangent.astype(jnp.float32))
    assert [leaf.dtype for leaf in gradients] == [*[jnp.bfloat16] * 3, jnp.float32]
    # The scores' gradient is a difference of terms that were each rounded.
    for one, other in zip(gradients, expected, strict=True):
        assert distance(one, other) < 6 * ROUNDING


def test_convolution_differentiates_in_the_type_of_its_input() -> None:
    x, kernel = halved(RNG.normal(size=(1, 6, 9, 3))), halved(RNG.normal(size=(2, 3, 3, 4)))
    how = (1, ((2, 0), (1, 1)), 2)

    def layer(x: Array, kernel: Array) -> Array:
        return convolve((x,), kernel, *how)

    out, pull = jax.vjp(layer, x, kernel)
    exact, pull_exact = jax.vjp(layer, x.astype(jnp.float32), kernel.astype(jnp.float32))
    for one, other in zip((out, *pull(out)), (exact, *pull_exact(out.astype(jnp.float32))), strict=True):
        assert one.dtype == jnp.bfloat16
        assert distance(one, other) < 2 * ROUNDING


@pytest.fixture(scope="module")
def passes() -> dict[str, Any]:
    """By precision: gradients of both networks, moved statistics, losses, estimates; one batch, the same weights."""
    batch = make_crops(SMALL.batch, SMALL.data.crop_seconds, 16_000)

    def both(generator: Any, judge: Any, batch: Any, value: Array, weight: Array, *, config: Any) -> Any:
        forward = generator_forward(generator, batch, config=config, networks=make_networks(config, AXIS))
        of_generator, judged, adversarial = generator_gradient(
            judge, forward, config=config, networks=make_networks(config, AXIS)
        )
        judge = replace(judge, batch_stats=judged)
        magnitudes = forward.clean_magnitude, forward.estimate_magnitude
        of_judge, _, losses = discriminator_gradient(
            judge, *magnitudes, value, weight, config=config, networks=make_networks(config, AXIS)
        )
        return of_generator, of_judge, forward.stats, forward.metrics | adversarial | losses, forward.estimate

    state, ones = initialise(SMALL), np.ones((1, SMALL.batch), np.float32)
    operands = {name: batch[name][None] for name in ("clean", "noisy")}, 0.5 * ones, ones
    found = {}
    for precision in ("fp32", "bf16"):
        one_device = partial(both, config=replace(SMALL, precision=precision))
        mapped: Callable[..., Any] = jax.vmap(one_device, (None, None, 0, 0, 0), axis_name=AXIS)
        run = jax.jit(mapped, compiler_options=RUN_ONCE)
        found[precision] = jax.device_get(run(state.generator, state.discriminator, *operands))
    return found


@pytest.mark.slow
def test_estimates_and_losses_are_near(passes: dict[str, Any]) -> None:
    """About 50 roundings follow one another, independent: the root of 50 times one of them.

    In the waveform the power 10 / 3 that undoes the compression multiplies relative errors by as much.
    """
    exact, found = passes["fp32"], passes["bf16"]
    assert ROUNDING / 4 < distance(found[4], exact[4]) < 10 / 3 * 50**0.5 * ROUNDING
    for name in [name for name in exact[3] if "loss" in name]:
        one, other = found[3][name], exact[3][name]
        if name == "loss_adversarial" or "discriminator" in name:
            # The root of a mean of squares over few findings is off by no more than they are.
            np.testing.assert_allclose(np.sqrt(one), np.sqrt(other), atol=4 * ROUNDING, err_msg=name)
        else:
            # Means over many values, whose errors cancel but for a bias.
            np.testing.assert_allclose(one, other, rtol=8 * ROUNDING, atol=1e-3, err_msg=name)
    assert distance(found[2], exact[2]) < ROUNDING


@pytest.mark.slow
def test_gradients_are_float32_finite_and_near(passes: dict[str, Any]) -> None:
    """Twice as many roundings as forward.

    The discriminator's maximum over positions may fall on another one, which is as good a gradient of its own: looser.
    """
    for index, allowed in ((0, 10 / 3 * 100**0.5 * ROUNDING), (1, 0.5)):
        exact, found = passes["fp32"][index], passes["bf16"][index]
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
        assert 0 < distance(found, exact) < allowed


@pytest.mark.slow
def test_a_run_keeps_its_state_and_may_change_its_precision(traced: list[str], tmp_path: Path) -> None:
    """An epoch in bfloat16, a recording, then an epoch in float32 from its checkpoint; each program traced once."""
    # Without conformers: quick to compile.
    whole = override(SMALL, {"generator.blocks": 0})
    halves = replace(whole, precision="bf16")
    corpus, out = make_corpus(tmp_path / "corpus", halves), tmp_path / "run"
    launch(halves, corpus, RunOptions(out, devices=1), Display())
    assert traced == ["features", "apply_gradient", "apply_gradient"]
    noisy = make_crops(1, SMALL.data.crop_seconds, 16_000)["noisy"][0]
    enhancer = Enhancer.from_checkpoint(out)
    assert enhancer.weights.config.precision == "bf16"
    assert 0 < distance(enhancer.enhance(noisy, 16_000), noisy) < np.inf
    launch(replace(whole, epochs=2), corpus, RunOptions(out, devices=1, resume=True), Display())
    assert [record["generator_update"] for record in read_kind(out, "step")] == [1.0] * 4
    for step, precision in ((2, "bf16"), (4, "fp32")):
        checkpoint = Checkpoint(out, "latest", step)
        assert read_run(checkpoint)["config"]["precision"] == precision
        with ocp.StandardCheckpointer() as reader:
            saved = reader.metadata(Path(str(checkpoint)) / "state").item_metadata
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(saved)} == {"float32", "int32"}


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match=r"--precision is fp8: it must be one of fp32, tf32, bf16"):
        check(override(SMALL, {"precision": "fp8"}))


@pytest.mark.parametrize(("precision", "stated"), [("fp32", "HIGHEST"), ("tf32", "DEFAULT"), ("bf16", "HIGHEST")])
@pytest.mark.slow
def test_programs_state_how_precise_their_products_are(precision: str, stated: str) -> None:
    """What a device makes of float32 by itself is not left to it: on a GPU, ten bits. Spectra are exact always."""
    config = replace(SMALL, precision=precision)
    state = initialise(config)
    batch = {name: np.zeros((1, 4_000), np.float32) for name in ("clean", "noisy")}

    def both(generator: Any, judge: Any, batch: Any) -> Any:
        forward = generator_forward(generator, batch, config=config, networks=make_networks(config, AXIS))
        rest = judge, forward, jnp.float32(1e-3)
        return generator_backward(generator, None, *rest, config=config, networks=make_networks(config, AXIS))[0].params

    mapped = jax.vmap(both, (None, None, 0), axis_name=AXIS)
    operands = state.generator, state.discriminator, {name: wave[None] for name, wave in batch.items()}
    found: Counter[tuple[str, str]] = Counter()
    for equation in equations(jax.make_jaxpr(mapped)(*operands).jaxpr):
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            spectral = equation.invars[1].aval.shape[-2:] in ((400, 402), (402, 400))
            named = equation.params["precision"]
            found["spectral" if spectral else "network", str(named[0].name if named else None)] += 1
    assert {key[1] for key in found if key[0] == "spectral"} == {"HIGHEST"}
    assert {key[1] for key in found if key[0] == "network"} == {stated}
    assert sum(found.values()) > 50


def equations(jaxpr: Any) -> Iterator[Any]:
    """Of a program, and of all programs within."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)
