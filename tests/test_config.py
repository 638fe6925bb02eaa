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
from cmgan_jax.recipes import PRESETS, RECIPES, flatten, make_config, override
from cmgan_jax.spectral import istft, magnitude, stft

RULES: list[tuple[str, Any, str]] = [
    ("save_every", "10", "a number with its unit, such as 10min or 500steps"),
    ("save_every", "1.5steps", "a number with its unit"),
    ("save_every", "-5min", "a number with its unit"),
    ("save_every", "9" * 400 + "min", "a number with its unit"),
    ("spectral.sample_rate", 8_000, "16000, where wide-band PESQ is defined"),
    ("spectral.n_fft", 402, "a multiple of 4, at least 32"),
    ("spectral.hop", 400, "a divisor of n-fft (400), at most half of it"),
    ("spectral.hop", 160, "a divisor of n-fft (400), at most half of it"),
    ("generator.channels", 62, "a multiple of heads (4)"),
    ("generator.kernel", 30, "odd"),
    ("generator.late_strides", (), "at least one stride where early-strides has none"),
    ("generator.late_strides", (3,), "such that all strides' product, early and late, divides n-fft / 2 (200)"),
    ("data.crop_seconds", 1400 / 16_000, "at least 1500 samples: a window, and 16 frames"),
    ("data.crop_seconds", 16_050 / 16_000, "a multiple of the hop (100 samples)"),
    ("data.snr_low", 20.0, "at most snr-high (17.5)"),
    ("augmentation.level_low", -5.0, "at most level-high (-10.0)"),
]
NO_ZERO = {
    "epochs",
    "batch",
    "log_every",
    "patience",
    "spectral.sample_rate",
    "spectral.n_fft",
    "spectral.hop",
    "spectral.exponent",
    "generator.channels",
    "generator.heads",
    "generator.feed_forward_factor",
    "generator.convolution_factor",
    "generator.kernel",
    "discriminator.channels",
    "targets.time_limit",
    "optimiser.generator_rate",
    "optimiser.discriminator_rate",
    "optimiser.epsilon",
    "optimiser.decay_every",
    "optimiser.decay_factor",
    "data.crop_seconds",
    "data.validation_crops",
    "data.threads",
    "data.prefetch",
    "health.window",
    "augmentation.level_low",  # Above level_high.
    "targets.every",  # A discriminator that is never taught beside a weight of its term.
    "inference.whole",
    "inference.window",
}
"""Numbers by which something is divided or multiplied, and those of which there must be some."""
NO_ONE = {
    "spectral.sample_rate",
    "spectral.n_fft",
    "generator.channels",  # No multiple of the heads.
    "generator.dropout",
    "discriminator.dropout",
    "optimiser.beta1",
    "optimiser.beta2",
    "optimiser.ema_decay",
    "health.window",
    "augmentation.level_low",
    "augmentation.level_high",
    "inference.whole",  # Less than a window.
}
"""Numbers of which more than one must be, and shares at which nothing would be left."""
NEGATIVE = {"data.snr_low", "data.snr_high", "augmentation.level_low", "augmentation.level_high"}
"""Decibels."""


def refusal(path: str, value: Any) -> list[str]:
    """The lines that name a flag, where everything but one field is as it is by default."""
    try:
        check(override(Config(), {path: value}))
    except UserError as error:
        return str(error).splitlines()[1:]
    return []


@pytest.mark.parametrize(("path", "value", "right"), RULES)
def test_what_breaks_a_rule_is_refused_by_name_alone(path: str, value: Any, right: str) -> None:
    [line] = refusal(path, value)
    flag = path.replace("_", "-")
    assert line.startswith(f"  --{flag} is {value}: it must be {right}"), line


def test_which_numbers_may_be_zero_one_or_negative() -> None:
    numbers = {path: value for path, value in flatten(Config()).items() if type(value) in (int, float)}
    assert {path for path in numbers if refusal(path, 0)} == NO_ZERO
    assert {path for path in numbers if refusal(path, 1)} == NO_ONE
    # The default of level_high is below -1.
    assert {path for path in numbers if not refusal(path, -1)} | {"augmentation.level_low"} == NEGATIVE


def test_a_discriminator_that_is_never_taught_has_no_weight() -> None:
    [line] = refusal("targets.every", 0)
    assert line.startswith("  --loss.adversarial is 0.05: it must be 0 where targets.every is 0")
    check(override(Config(), {"targets.every": 0, "loss.adversarial": 0.0}))


def test_a_field_is_not_refused_for_what_another_has_wrong() -> None:
    """The hop divides no window of this length, and no crop is of whole hops."""
    [line] = refusal("spectral.n_fft", 402)
    assert line.startswith("  --spectral.n-fft is 402: ")


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
