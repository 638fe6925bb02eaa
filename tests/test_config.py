"""The check of a config: what cannot work is refused by the name of its flag, all at once."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.models.generator import Generator
from cmgan_jax.recipes import PRESETS, RECIPES, make_config, override
from cmgan_jax.spectral import istft, magnitude, stft

NAN = float("nan")
NONSENSE: list[tuple[str, Any]] = [
    ("patience", 0),
    ("save_every", "10"),
    ("save_every", "1.5steps"),
    ("save_every", "-5min"),
    ("seed", -1),
    ("seed", 2**32),
    ("epochs", 0),
    ("steps_per_epoch", -1),
    ("batch", 0),
    ("log_every", 0),
    ("spectral.sample_rate", 8_000),
    ("spectral.n_fft", 402),
    ("spectral.n_fft", 28),
    ("spectral.hop", 0),
    ("spectral.hop", 400),
    ("spectral.hop", 160),
    ("spectral.exponent", 0.0),
    ("spectral.exponent", 1.5),
    ("generator.channels", 62),
    ("generator.channels", 0),
    ("generator.blocks", -1),
    ("generator.heads", 0),
    ("generator.dense_depth", -1),
    ("generator.feed_forward_factor", 0),
    ("generator.convolution_factor", 0),
    ("generator.kernel", 30),
    ("generator.kernel", -1),
    ("generator.max_distance", -1),
    ("generator.dropout", 1.0),
    ("discriminator.channels", 0),
    ("discriminator.dropout", -0.1),
    ("loss.ri", -0.1),
    ("loss.magnitude", NAN),
    ("loss.time", float("inf")),
    ("loss.adversarial", -1.0),
    ("loss.time_reference", "other"),
    ("targets.policy", "other"),
    ("targets.workers", -1),
    ("targets.time_limit", 0.0),
    ("targets.inject_failures", 1.1),
    ("targets.inject_batch_failures", -0.1),
    ("optimiser.generator_rate", 0.0),
    ("optimiser.discriminator_rate", NAN),
    ("optimiser.beta1", 1.0),
    ("optimiser.beta2", -0.1),
    ("optimiser.epsilon", 0.0),
    ("optimiser.weight_decay", -0.01),
    ("optimiser.decay_every", 0),
    ("optimiser.decay_factor", 0.0),
    ("optimiser.clip_norm", -1.0),
    ("optimiser.ema_decay", 1.0),
    ("data.crop_seconds", 0.0),
    ("data.crop_seconds", NAN),
    ("data.crop_seconds", float("inf")),
    ("data.crop_seconds", 1400 / 16_000),
    ("data.crop_seconds", 16_050 / 16_000),
    ("data.validation_crops", 0),
    ("data.validation_files", -1),
    ("data.snr_low", 20.0),
    ("data.snr_high", NAN),
    ("data.babble_share", 1.1),
    ("data.threads", 0),
    ("data.prefetch", 0),
]


@pytest.mark.parametrize(("path", "value"), NONSENSE)
def test_nonsense_is_refused_by_name(path: str, value: Any) -> None:
    with pytest.raises(UserError) as refusal:
        check(override(Config(), {path: value}))
    named = str(refusal.value).splitlines()[1:]
    flag = path.replace("_", "-")
    assert any(line.startswith(f"  --{flag} is ") and "it must be" in line for line in named), named


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = {"batch": 0, "spectral.exponent": 2.0, "generator.kernel": 4, "data.threads": 0}
    with pytest.raises(UserError) as refusal:
        check(override(Config(), wrong))
    named = [line.split()[0] for line in str(refusal.value).splitlines()[1:]]
    assert sorted(named) == ["--batch", "--data.threads", "--generator.kernel", "--spectral.exponent"]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_recipe_works_at_every_size(recipe: str, preset: str) -> None:
    check(make_config(recipe, preset))


def test_the_smallest_that_is_allowed_works() -> None:
    """At the bounds of the rules every shape fits, from the waveform to the finding; traced, not computed."""
    smallest = {
        "spectral.n_fft": 32,
        "spectral.hop": 16,
        "spectral.exponent": 1.0,
        "data.crop_seconds": 15 * 16 / 16_000,
        "generator.channels": 1,
        "generator.heads": 1,
        "generator.blocks": 1,
        "generator.kernel": 1,
        "generator.max_distance": 0,
        "generator.dense_depth": 0,
        "discriminator.channels": 1,
    }
    config = override(Config(), smallest)
    check(config)

    def step(audio: jax.Array) -> Any:
        spectrum = stft(audio, config.spectral)
        enhanced, _ = Generator(config.generator).init_with_output(jax.random.key(0), spectrum)
        finding, _ = Discriminator(config.discriminator).init_with_output(
            jax.random.key(0), magnitude(spectrum), magnitude(enhanced)
        )
        return istft(enhanced, config.spectral), finding

    audio, finding = jax.eval_shape(step, jax.ShapeDtypeStruct((1, config.crop_samples), jnp.float32))
    assert (audio.shape, finding.shape) == ((1, config.crop_samples), (1,))
