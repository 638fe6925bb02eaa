"""The published CMGAN, number by number: same weights, same input (`../shared/reference`, see its README)."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmgan_jax.config import Config, LossConfig, OptimiserConfig
from cmgan_jax.interop.naming import discriminator_from_torch, generator_from_torch, generator_to_torch
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.models.generator import Generator
from cmgan_jax.spectral import compress, istft, magnitude, stft, uncompress, unit_rms_gain
from cmgan_jax.training.losses import adversarial_loss, magnitude_loss, ri_loss, time_loss
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.state import start_network
from cmgan_jax.training.steps import compile_steps

SPECTRAL = Config().spectral
Numbers = dict[str, Any]


@cache
def _load(folder: Path) -> tuple[Numbers, Any, Any, Any, Any]:
    numbers = dict(np.load(folder / "reference.npz"))
    # The reference took its training-mode figures with every dropout set to 0.
    generator_config, generator = generator_from_torch(read_torch_file(folder / "generator.pt"))
    discriminator_config, discriminator = discriminator_from_torch(read_torch_file(folder / "discriminator.pt"))
    return (
        numbers,
        replace(generator_config, dropout=0.0),
        generator,
        replace(discriminator_config, dropout=0.0),
        discriminator,
    )


@pytest.fixture
def reference(shared: Path) -> tuple[Numbers, Any, Any, Any, Any]:
    return _load(shared / "reference")


def complex_of(parts: np.ndarray) -> np.ndarray:
    """[B, 2, ...] real and imaginary -> complex[B, ...]."""
    return parts[:, 0] + 1j * parts[:, 1]


def assert_near(found: Any, expected: Any, tolerance: float) -> None:
    """Largest deviation, relative to the largest expected value."""
    deviation = np.max(np.abs(np.asarray(found) - expected)) / np.max(np.abs(expected))
    assert deviation <= tolerance, f"deviation {deviation:.2e}, allowed {tolerance:.0e}"


def test_level_and_spectra(reference: tuple[Numbers, Any, Any, Any, Any]) -> None:
    numbers = reference[0]
    factor = unit_rms_gain(numbers["noisy"])
    assert_near(factor[:, 0], numbers["scale"], 1e-6)
    # Compression amplifies rounding where a bin is nearly 0, so spectra are compared uncompressed, and by audio.
    for name, order in (("noisy", (0, 1, 2)), ("clean", (0, 2, 1))):
        expected = complex_of(numbers[f"{name}_spec"]).transpose(order)
        found = compress(stft(numbers[name] * factor, SPECTRAL), SPECTRAL)
        assert_near(uncompress(found, SPECTRAL), np.asarray(uncompress(jnp.asarray(expected), SPECTRAL)), 1e-5)
        assert_near(istft(uncompress(jnp.asarray(expected), SPECTRAL), SPECTRAL), numbers[name] * factor, 1e-5)


@pytest.mark.slow
def test_generator_in_evaluation(reference: tuple[Numbers, Any, Any, Any, Any]) -> None:
    numbers, config, variables, _, _ = reference
    noisy = jnp.asarray(complex_of(numbers["noisy_spec"]))
    found = jax.jit(Generator(config).apply)(variables, noisy)
    expected = (numbers["eval_real"] + 1j * numbers["eval_imag"])[:, 0]
    assert_near(found, expected, 1e-4)
    assert_near(istft(uncompress(found, SPECTRAL), SPECTRAL), numbers["eval_audio"], 1e-4)


@pytest.mark.slow
def test_discriminator_in_evaluation(reference: tuple[Numbers, Any, Any, Any, Any]) -> None:
    numbers, _, _, config, variables = reference
    clean = magnitude(jnp.asarray(complex_of(numbers["clean_spec"]))).swapaxes(1, 2)
    estimate = magnitude(jnp.asarray((numbers["eval_real"] + 1j * numbers["eval_imag"])[:, 0]))
    apply = jax.jit(Discriminator(config).apply)
    assert_near(apply(variables, clean, clean), numbers["disc_clean_clean"][:, 0], 1e-5)
    assert_near(apply(variables, clean, estimate), numbers["disc_clean_est"][:, 0], 1e-5)


@pytest.mark.slow
def test_losses_and_gradient_of_a_training_forward(reference: tuple[Numbers, Any, Any, Any, Any]) -> None:
    numbers, config, variables, judge_config, judge = reference
    factor = unit_rms_gain(numbers["noisy"][:1])
    clean_audio = numbers["clean"][:1]
    # The same spectra as the reference's: from audio, rounding near 0 would be amplified.
    noisy = jnp.asarray(complex_of(numbers["noisy_spec"])[:1])
    clean = jnp.asarray(complex_of(numbers["clean_spec"])[:1].swapaxes(1, 2))

    def loss(params: Any) -> tuple[jax.Array, Any]:
        spectrum, updated = Generator(config).apply(
            {**variables, "params": params}, noisy, train=True, mutable=["batch_stats"]
        )
        audio = istft(uncompress(spectrum, SPECTRAL), SPECTRAL)
        estimate = magnitude(spectrum)
        finding = Discriminator(judge_config).apply(judge, magnitude(clean), estimate)
        assert isinstance(finding, jax.Array)
        terms = {
            "loss_ri": ri_loss(spectrum, clean),
            "loss_mag": magnitude_loss(estimate, magnitude(clean)),
            "loss_time_unnormalised_clean": time_loss(audio, clean_audio),
            "loss_time_normalised_clean": time_loss(audio, clean_audio * factor),
            "loss_gan": adversarial_loss(finding),
        }
        # The published head's total: the un-normalised clean in the time loss.
        w = LossConfig()
        total = (
            w.ri * terms["loss_ri"]
            + w.magnitude * terms["loss_mag"]
            + w.time * terms["loss_time_unnormalised_clean"]
            + w.adversarial * terms["loss_gan"]
        )
        return total, (terms | {"loss_total_official": total}, updated["batch_stats"], estimate)

    (_, (terms, stats, estimate)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    for name, value in terms.items():
        assert float(value) == pytest.approx(float(numbers[name]), rel=1e-5), name
    assert_near(estimate[:, None].swapaxes(2, 3), numbers["train_est_mag"], 1e-4)

    found_stats = generator_to_torch({"params": variables["params"], "batch_stats": stats})
    for key in (k for k in numbers if k.startswith("buf/") and "tracked" not in k):
        assert_near(found_stats[key.removeprefix("buf/")], numbers[key], 1e-5)

    found = generator_to_torch({"params": gradient, "batch_stats": stats})
    names = [key.removeprefix("grad/") for key in numbers if key.startswith("grad/")]
    assert set(names) == {name for name in found if "running" not in name and "tracked" not in name}
    norms = {name: float(numbers[f"grad/{name}"][0]) for name in names}
    largest = max(norms.values())
    for name in names:
        if norms[name] > 1e-6 * largest:
            assert np.linalg.norm(found[name]) == pytest.approx(norms[name], rel=5e-3), name
    whole = np.sqrt(sum(np.linalg.norm(found[name]) ** 2 for name in names))
    assert whole == pytest.approx(np.sqrt(sum(n**2 for n in norms.values())), rel=1e-3)


@pytest.mark.slow
def test_three_discriminator_updates(reference: tuple[Numbers, Any, Any, Any, Any]) -> None:
    """The training step itself: order of forwards, power iterations, AdamW and its weight decay."""
    numbers, _, _, judge_config, judge = reference
    config = Config(batch=1, discriminator=judge_config, optimiser=OptimiserConfig())
    placement = Placement(jax.devices()[:1])
    update = compile_steps(config, placement).update
    clean = magnitude(jnp.asarray(complex_of(numbers["clean_spec"])[:1])).swapaxes(1, 2)
    estimate = numbers["train_est_mag"][:, 0].swapaxes(1, 2)
    state = placement.replicate(start_network(judge, config.optimiser))
    losses = []
    for _ in range(3):
        state, metrics = update(
            state,
            *(placement.split(part) for part in (clean, estimate, numbers["disc_targets"], np.ones(1, np.float32))),
            placement.replicate(np.asarray(True)),
            placement.replicate(jnp.float32(1e-3)),
        )
        losses.append(float(metrics["discriminator_loss"]))
    np.testing.assert_allclose(losses, numbers["disc_losses_3_adamw_steps"], rtol=1e-4)
    assert optax.tree.norm(state.params) > 0
