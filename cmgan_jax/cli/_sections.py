"""The config's sections as flags of a program that has flags of its own for batch and precision."""

import argparse
import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import tyro

from cmgan_jax.config import (
    AugmentationConfig,
    Config,
    DataConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    HealthConfig,
    InferenceConfig,
    LossConfig,
    OptimiserConfig,
    SpectralConfig,
    TargetConfig,
)
from cmgan_jax.recipes import make_config


@dataclass(frozen=True)
class Sections:
    """Every section of `Config`; the preset and the recipe set their defaults."""

    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    health: HealthConfig = field(default_factory=HealthConfig)

    @classmethod
    def of(cls, config: Config) -> "Sections":
        """Those of a config."""
        return cls(**{each.name: getattr(config, each.name) for each in dataclasses.fields(cls)})


class HasSections(Protocol):
    """Arguments that choose a config: a preset, a recipe, and every number of the sections."""

    @property
    def preset(self) -> str: ...
    @property
    def recipe(self) -> str: ...
    @property
    def sections(self) -> Sections | None: ...


ArgumentsT = TypeVar("ArgumentsT", bound=HasSections)


def parse(cls: type[ArgumentsT], prog: str, words: list[str] | None = None) -> ArgumentsT:
    """Arguments from the command line; what is named neither there nor by preset and recipe has the default.

    Args:
        cls: a dataclass whose field `sections` has the flags of the config.
        prog: name of the program.
        words: the command line; None: that of the process.

    Raises:
        UserError: an unknown preset or recipe.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    defaults = {each.name: each.default for each in dataclasses.fields(cls)}  # type: ignore[arg-type]
    first.add_argument("--preset", default=defaults["preset"])
    first.add_argument("--recipe", default=defaults["recipe"])
    known, _ = first.parse_known_args(words)
    config = make_config(known.recipe, known.preset)
    default: Any = cls(preset=known.preset, recipe=known.recipe, sections=Sections.of(config))  # type: ignore[call-arg]
    return tyro.cli(cls, args=words, prog=prog, default=default, config=(tyro.conf.FlagCreatePairsOff,))


def chosen(arguments: HasSections) -> Config:
    """The config that the arguments choose.

    Raises:
        UserError: an unknown preset or recipe.
    """
    config = make_config(arguments.recipe, arguments.preset)
    return config if arguments.sections is None else replace(config, **vars(arguments.sections))
