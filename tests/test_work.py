"""Work on paper: the figures of an independent count of the paper's size, and properties of the formulas."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from cmgan_jax.benchmarking.work import Work, discriminator_work, generator_work, program_work, total
from cmgan_jax.config import Config, DiscriminatorConfig, GeneratorConfig
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.models.generator import Generator
from cmgan_jax.recipes import make_config

# Counted apart from this code, for a 2 s crop of the paper's size: T = 321 frames, F = 201 bins. GMAC, one decimal.
PAPER = {
    "encoder": 16.3,
    "time feed-forward": 8.5,
    "time qkvo": 2.1,
    "time attention": 5.3,
    "time relative": 2.7,
    "time pointwise": 3.2,
    "time depthwise": 0.5,
}


def test_paper_size_by_part() -> None:
    parts = {name: work.macs / 1e9 for name, work in generator_work(GeneratorConfig(), 321, 201).items()}
    assert {name: round(parts[name], 1) for name in PAPER} == PAPER
    assert sum(macs for name, macs in parts.items() if name.startswith("time")) == pytest.approx(22.3, abs=0.05)
    assert sum(macs for name, macs in parts.items() if name.startswith("frequency")) == pytest.approx(16.8, abs=0.05)
    assert parts["mask decoder"] + parts["complex decoder"] == pytest.approx(17.6, abs=0.06)
    assert sum(parts.values()) == pytest.approx(72.98, abs=0.01)


def test_crop_of_the_config_is_what_is_counted() -> None:
    assert program_work(Config())["forward"] == total(generator_work(GeneratorConfig(), 321, 201))
    shorter = program_work(make_config("recommended", "paper"), samples=16_000)["forward"]
    assert shorter.macs < 0.5 * program_work(Config())["forward"].macs  # Attention grows with the square.


def test_discriminator_by_its_program() -> None:
    """XLA counts two operations a multiply-add of the convolutions; what else it counts is small."""
    config, frames, bins = DiscriminatorConfig(), 64, 49
    magnitude = jax.ShapeDtypeStruct((1, frames, bins), jnp.float32)
    variables = jax.eval_shape(Discriminator(config).init, jax.random.key(0), magnitude, magnitude)
    found = jax.jit(Discriminator(config).apply).lower(variables, magnitude, magnitude).cost_analysis()
    assert found is not None
    # Padding: the library leaves out products with the zeros around the edge, about a tenth at this size.
    assert discriminator_work(config, frames, bins).macs == pytest.approx(found["flops"] / 2, rel=0.15)


def test_strided_generator_by_its_program() -> None:
    """XLA counts two operations a multiply-add; at this size its other operations are a few per cent.

    One block: XLA counts a loop's body once.
    """
    small = make_config("recommended", "small").generator
    config = replace(small, blocks=1, early_strides=(2, 4), output_channels=16)
    frames, bins = 24, 8 * 8 + 1
    noisy = jax.ShapeDtypeStruct((1, frames, bins), jnp.complex64)
    variables = jax.eval_shape(Generator(config).init, jax.random.key(0), noisy)
    found = jax.jit(Generator(config).apply).lower(variables, noisy).cost_analysis()
    assert found is not None
    assert total(generator_work(config, frames, bins)).macs == pytest.approx(found["flops"] / 2, rel=0.15)


def test_training_is_three_passes_and_the_verdict_two() -> None:
    config = Config()
    work, judge = program_work(config), discriminator_work(config.discriminator, 321, 201)
    assert work["generator"].macs == 3 * work["forward"].macs + 2 * judge.macs
    assert work["discriminator"].macs == 6 * judge.macs
    assert work["step"].elements == work["generator"].elements + work["discriminator"].elements


def test_floor_is_the_longer_of_arithmetic_and_traffic() -> None:
    work = Work(macs=100.0, elements=10.0)
    assert work.floor("fp32", macs_per_second=50.0, bytes_per_second=1e9) == 2.0
    assert work.floor("fp32", macs_per_second=1e9, bytes_per_second=10.0) == 4.0
    assert work.floor("bf16", macs_per_second=1e9, bytes_per_second=10.0) == 2.0
