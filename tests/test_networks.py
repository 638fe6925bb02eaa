"""Networks are injected: steps without an axis, a generator of one's own, and both ways to map a step."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.models.networks import Networks, make_networks
from cmgan_jax.recipes import make_config, override
from cmgan_jax.spectral import magnitude
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.state import TrainState, initialise
from cmgan_jax.training.steps import compile_steps, discriminator_update, generator_backward, generator_forward

TINY = override(make_config("recommended", "tiny"), {"data.crop_seconds": 0.25, "batch": 4})
MINE = override(TINY, {"generator.module": f"{__name__}:OneGain"})


class OneGain(nn.Module):
    """A gain a frequency bin, and no statistics: as little as a generator can be."""

    config: Config
    axis_name: str | None = None

    @nn.compact
    def __call__(self, noisy: Array, train: bool = False, frames: Array | None = None) -> Array:
        return noisy * self.param("gain", nn.initializers.ones, (noisy.shape[-1],))


def batch_of(config: Config) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = 0.1 * rng.standard_normal((config.batch, config.crop_samples)).astype(np.float32)
    return {"clean": clean, "noisy": clean + 0.05 * rng.standard_normal(clean.shape).astype(np.float32)}


def mapped_step(config: Config, devices: int, steps: int = 2) -> list[np.ndarray]:
    """The parameters and the losses after whole steps over devices."""
    placement = Placement(jax.devices()[:devices], config.mapping)
    programs, state = compile_steps(config, placement), placement.replicate(initialise(config))
    rate, made = placement.replicate(jnp.float32(1e-3)), placement.replicate(np.asarray(True))
    half = placement.split(np.full(config.batch, 0.5, np.float32))
    losses: list[Any] = []
    for _ in range(steps):
        forward = programs.forward(state.generator, placement.split(batch_of(config)))
        magnitudes = forward.clean_magnitude, forward.estimate_magnitude
        generator, average, vectors, metrics = programs.backward(
            state.generator, state.average, state.discriminator, forward, rate
        )
        discriminator, taught = programs.update(
            replace(state.discriminator, batch_stats=vectors), *magnitudes, half, half, made, rate
        )
        state = TrainState(generator, discriminator, average)
        losses += [metrics["generator_loss"], taught["discriminator_loss"]]
    return [np.asarray(leaf) for leaf in jax.tree.leaves((state.generator.params, state.discriminator.params, losses))]


def test_a_step_without_any_axis_is_that_of_one_mapped_device() -> None:
    """A loop of one's own: plain jit, no pmap, no axis name."""
    networks, state, rate = make_networks(TINY), initialise(TINY), jnp.float32(1e-3)
    half, how = jnp.full(TINY.batch, 0.5), {"config": TINY, "networks": networks}
    losses: list[Any] = []
    for _ in range(2):
        forward = jax.jit(partial(generator_forward, **how))(state.generator, batch_of(TINY))
        generator, average, vectors, metrics = jax.jit(partial(generator_backward, **how))(
            state.generator, state.average, state.discriminator, forward, rate
        )
        discriminator, taught = jax.jit(partial(discriminator_update, **how))(
            replace(state.discriminator, batch_stats=vectors),
            forward.clean_magnitude,
            forward.estimate_magnitude,
            half,
            half,
            jnp.asarray(True),
            rate,
        )
        state = TrainState(generator, discriminator, average)
        losses += [metrics["generator_loss"], taught["discriminator_loss"]]
    found = jax.tree.leaves((state.generator.params, state.discriminator.params, losses))
    for mine, mapped in zip(found, mapped_step(TINY, 1), strict=True):
        np.testing.assert_allclose(mine, mapped, rtol=1e-5, atol=1e-7)


def test_pmap_and_jit_over_a_mesh_give_the_same_numbers() -> None:
    for one, other in zip(mapped_step(TINY, 2), mapped_step(override(TINY, {"mapping": "jit"}), 2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_generator_of_one_s_own_learns_under_both_mappings() -> None:
    before = initialise(MINE).generator.params["gain"]
    for mapping in ("pmap", "jit"):
        gain, *_ = mapped_step(override(MINE, {"mapping": mapping}), 2)
        assert gain.shape == before.shape == (TINY.spectral.bins,)
        assert (gain != before).all()


def test_networks_may_be_given_in_the_place_of_the_config_s() -> None:
    given = Networks(OneGain(TINY), make_networks(TINY).discriminator)
    assert set(initialise(TINY, given).generator.params) == {"gain"}
    assert "gain" not in initialise(TINY).generator.params
    spectrum = jnp.ones((1, 5, TINY.spectral.bins), jnp.complex64)
    out = given.generator.apply(given.generator.init(jax.random.key(0), spectrum), spectrum)
    np.testing.assert_array_equal(magnitude(out), magnitude(spectrum))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("no_such_module:Net", r"--generator\.module no_such_module:Net: it cannot be imported \(No module named"),
        (f"{__name__}:Nothing", "it cannot be imported .*has no attribute 'Nothing'"),
        (f"{__name__}:batch_of", r"batch_of\(config, axis_name\) raised .*let it take a Config"),
        ("builtins:max", r"max\(config, axis_name\) raised"),
        (f"{__name__}:no_module", r"gave str; let it give a flax\.linen\.Module"),
    ],
)
def test_what_is_no_generator_is_named_with_the_remedy(module: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_networks(override(TINY, {"generator.module": module}))


def no_module(config: Config, axis_name: str | None) -> str:
    return "a generator"


def test_a_module_has_to_be_named_with_what_is_in_it() -> None:
    with pytest.raises(UserError, match=r"--generator\.module is mine: it must be empty, or a module and a name"):
        check(override(TINY, {"generator.module": "mine"}))
    with pytest.raises(UserError, match="--mapping is vmap: it must be one of pmap, jit"):
        check(override(TINY, {"mapping": "vmap"}))


def test_a_mesh_of_several_hosts_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Elsewhere:
        process_index = 1

    devices: list[Any] = [jax.devices()[0], Elsewhere()]
    with pytest.raises(UserError, match="--mapping jit serves a single host, and here are 2"):
        Placement(devices, "jit")
