"""The interface of generator and discriminator for training, validation and enhancement.

A generator is a Flax module with

    __call__(noisy, train=False, frames=None) -> enhanced

`noisy` and `enhanced` are complex[B, T, F]: spectra of level-normalised audio with compressed magnitudes. `frames`,
int[B] or None, is the number of valid frames of each item; the others are padding, which a generator should ignore so
that items of different lengths can share a batch. A generator may have `batch_stats`, and may use the random stream
`dropout`. A discriminator is a Flax module with

    __call__(clean, other, train=False) -> score

`clean` and `other` are compressed magnitudes, float[B, T, F], and `score` is float[B] in [0, 1]. It may have
`batch_stats`, too.
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
    """Generator and discriminator, and the device axis that they are built for.

    Attributes:
        generator: a Flax module as described in this module's docstring.
        discriminator: a Flax module as described in this module's docstring.
        axis_name: mapped axis that splits the batch over devices; None: there is none.
    """

    generator: nn.Module
    discriminator: nn.Module
    axis_name: str | None = None


NetworkFactory = Callable[[Config, str | None], Networks]
"""Function that builds the networks of a config for a mapped device axis of the given name, or for one device (None).
"""


def make_networks(config: Config, axis_name: str | None = None) -> Networks:
    """Build the networks of a config; the generator is this project's own or that of `generator.module`.

    Args:
        config: sizes, precision, and whether batch norm shares its statistics among devices.
        axis_name: see `Networks`.

    Raises:
        UserError: `generator.module` cannot be imported, or does not return a Flax module.
    """
    discriminator = Discriminator(config.discriminator, axis_name, config.dtype)
    if config.generator.module:
        return Networks(_own_generator(config, axis_name), discriminator, axis_name)
    batchnorm_axis = axis_name if config.optimiser.cross_device_batchnorm else None
    return Networks(Generator(config.generator, axis_name, batchnorm_axis, config.dtype), discriminator, axis_name)


def trusting(module: str) -> NetworkFactory | None:
    """Make a factory for runs with a custom generator whose module the user has declared to be trusted.

    Args:
        module: `my_module:MyGenerator`, as in the run's config; empty: no module is trusted.

    Returns:
        A factory that rejects runs with another custom generator; None if no module is trusted.
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
