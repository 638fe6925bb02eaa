"""The choice between forms of one computation, by the config and by the device."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from test_enhance import CONFIG, random_variables

from cmgan_jax.config import Backend, Config, GeneratorConfig
from cmgan_jax.errors import UserError
from cmgan_jax.inference.weights import of_file
from cmgan_jax.interop.naming import generator_to_torch
from cmgan_jax.interop.weights_file import WeightsFile
from cmgan_jax.models import backends, kernels
from cmgan_jax.models.generator import Generator
from cmgan_jax.recipes import override, to_dict
from cmgan_jax.training.identity import differences

TINY = GeneratorConfig(channels=4, blocks=1, heads=2, dense_depth=1, kernel=3)
NOISY = jax.ShapeDtypeStruct((1, 4, 17), jnp.complex64)


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[Backend]:
    """What the parts of a network are computed with, in order; always by XLA."""
    asked: list[Backend] = []

    def uses_kernels(backend: Backend) -> bool:
        asked.append(backend)
        return False

    monkeypatch.setattr(backends, "uses_kernels", uses_kernels)
    return asked


@pytest.mark.parametrize(
    ("backend", "available", "used"),
    [("auto", True, True), ("auto", False, False), ("xla", True, False), ("xla", False, False), ("triton", True, True)],
)
def test_kernels_are_used_where_they_can_run_unless_xla_is_asked_for(
    backend: Backend, available: bool, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "available", lambda: available)
    assert backends.uses_kernels(backend) is used


def test_kernels_that_cannot_run_are_refused_where_they_are_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "available", lambda: False)
    with pytest.raises(UserError, match=r"--generator.backend triton: .* jax_triton; choose auto or xla"):
        backends.uses_kernels("triton")


@pytest.mark.parametrize("device", ["cpu", "gpu", "tpu"])
def test_forms_suit_the_device(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    cpu = device == "cpu"
    assert backends.scores_by_distance() is cpu
    assert backends.blocks_in_loop(train=True) is cpu
    assert backends.blocks_in_loop(train=False)
    assert backends.product_rows() == (1 if cpu else 8)


@pytest.mark.parametrize("backend", ["auto", "xla", "triton"])
def test_every_part_of_the_generator_is_computed_as_its_config_says(backend: Backend, choices: list[Backend]) -> None:
    """Forward in the conformers, twice each, and backward in every convolution."""
    network = Generator(replace(TINY, backend=backend, early_strides=(2,), recompute=False))
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), NOISY)
    choices.clear()

    def loss(params: Any, x: Any) -> Any:
        out = network.apply(variables | {"params": params}, x)
        return jnp.sum(jnp.abs(jnp.asarray(out)))

    jax.eval_shape(loss, variables["params"], NOISY)
    conformers = len(choices)
    jax.eval_shape(jax.grad(loss), variables["params"], NOISY)
    assert set(choices) == {backend}
    assert conformers
    assert len(choices) > 2 * conformers


def test_the_choice_is_no_part_of_the_parameters() -> None:
    """Weights of a run by one backend are those of another."""
    found = []
    backends_of_runs: tuple[Backend, ...] = ("auto", "xla")
    for backend in backends_of_runs:
        network = Generator(replace(TINY, backend=backend))
        found.append(jax.eval_shape(lambda x, network=network: network.init(jax.random.key(0), x), NOISY))
    assert found[0] == found[1]


def test_a_run_may_go_on_with_another_backend() -> None:
    runs = [{"config": to_dict(override(Config(), {"generator.backend": one}))} for one in ("auto", "xla")]
    assert differences(*runs) == []


def test_weights_of_a_run_with_kernels_can_be_used_without() -> None:
    note = {"config": to_dict(override(CONFIG, {"generator.backend": "triton"})), "step": 1}
    file = WeightsFile(dict(generator_to_torch(random_variables())), "pt", note)
    assert of_file(Path("generator.pt"), file).config == CONFIG
