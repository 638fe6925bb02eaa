"""The two networks of a training, as step functions, validation and enhancement take them.

A generator is a Flax module with

    __call__(noisy, train=False, frames=None) -> enhanced

`noisy` and `enhanced` are complex[B, T, F]: spectra of level-normalised audio, their magnitudes compressed. `frames`,
int[B] or None, tells how many frames of each item exist; the others are padding, and a generator that heeds them lets
items of different lengths share a batch. It may keep `batch_stats`, and may draw from the random stream `dropout`. A
discriminator is a Flax module with

    __call__(clean, other, train=False) -> score

`clean` and `other` are float[B, T, F], compressed magnitudes, and `score` is float[B] in [0, 1]. It may keep
`batch_stats` too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn

from cmgan_jax.config import Config
from cmgan_jax.errors import UserError
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.models.generator import Generator
from cmgan_jax.system.modules import import_own


@dataclass(frozen=True)
class Networks:
    """Both networks of a training, and the devices' axis that they know of.

    Attributes:
        generator: see this module's docstring.
        discriminator: likewise.
        axis_name: the mapped axis that splits the batch over devices; None: there is none.
    """

    generator: nn.Module
    discriminator: nn.Module
    axis_name: str | None = None


NetworkFactory = Callable[[Config, str | None], Networks]
"""Builds the networks of a config for devices that are mapped over the axis of that name, or for one device (None)."""


def make_networks(config: Config, axis_name: str | None = None) -> Networks:
    """Build the networks that a config names: this project's, or the generator of `generator.module`.

    Args:
        config: sizes, precision, and whether batch norm shares its statistics among devices.
        axis_name: see `Networks`.

    Raises:
        UserError: the module of `generator.module` cannot be imported, or gives no Flax module.
    """
    discriminator = Discriminator(config.discriminator, axis_name, config.dtype)
    if config.generator.module:
        return Networks(_own_generator(config, axis_name), discriminator, axis_name)
    batchnorm_axis = axis_name if config.optimiser.cross_device_batchnorm else None
    return Networks(Generator(config.generator, axis_name, batchnorm_axis, config.dtype), discriminator, axis_name)


def trusting(module: str) -> NetworkFactory | None:
    """Build the networks of a run whose generator is the code of that module, which somebody says to trust.

    Args:
        module: as the run names it, `my_module:MyGenerator`; empty: none is trusted.

    Returns:
        A factory that refuses the runs of another module; None where none is trusted.
    """

    def build(config: Config, axis_name: str | None) -> Networks:
        if config.generator.module not in ("", module):
            raise UserError(f"--generator-module {module}: the run's generator is {config.generator.module}")
        return make_networks(config, axis_name)

    return build if module else None


def _own_generator(config: Config, axis_name: str | None) -> nn.Module:
    named = config.generator.module
    module_name, _, name = named.partition(":")
    try:
        build: Any = getattr(import_own(module_name), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise UserError(
            f"--generator.module {named}: it cannot be imported ({error}); name an importable module and a class or "
            "function in it, as my_module:MyGenerator"
        ) from error
    try:
        generator = build(config, axis_name)
    except TypeError as error:
        raise UserError(
            f"--generator.module {named}: {name}(config, axis_name) raised {error}; let it take a Config and the name "
            "of the devices' axis, or None"
        ) from error
    if not isinstance(generator, nn.Module):
        raise UserError(
            f"--generator.module {named}: {name}(config, axis_name) gave {type(generator).__name__}; let it give a "
            "flax.linen.Module"
        )
    return generator
