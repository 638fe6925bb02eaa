"""The config as flags of the programs that measure."""

from typing import Any

import pytest

from cmgan_jax.cli import benchmark, scaling
from cmgan_jax.cli._sections import Sections, chosen, parse
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config

PROGRAMS: list[Any] = [benchmark.Arguments, scaling.Arguments]


@pytest.mark.parametrize("cls", PROGRAMS)
def test_every_number_of_a_section_is_a_flag(cls: Any) -> None:
    words = ["--preset", "small", "--recipe", "published_2022", "--generator.channels", "24"]
    config = chosen(parse(cls, "x", [*words, "--targets.every", "3"]))
    expected = make_config("published_2022", "small")
    assert config.generator.channels == 24
    assert config.targets.every == 3
    assert config.generator.early_strides == expected.generator.early_strides
    assert config.targets.policy == expected.targets.policy == "skip"
    assert config.spectral == expected.spectral


@pytest.mark.parametrize("cls", PROGRAMS)
def test_without_flags_it_is_the_preset_and_the_recipe(cls: Any) -> None:
    assert chosen(parse(cls, "x", ["--preset", "tiny"])) == make_config(preset="tiny")
    assert chosen(cls(preset="demo")) == make_config(preset="demo")


def test_the_sections_are_all_of_the_config() -> None:
    config = make_config(preset="small")
    sections = {name for name, value in vars(config).items() if hasattr(value, "__dataclass_fields__")}
    assert set(vars(Sections.of(config))) == sections


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UserError, match="unknown preset 'huge'"):
        parse(benchmark.Arguments, "x", ["--preset", "huge"])
