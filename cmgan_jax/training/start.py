"""Weights that a run begins with in the place of random ones: of a run, a checkpoint or a file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cmgan_jax.config import Config, DiscriminatorConfig
from cmgan_jax.errors import UserError
from cmgan_jax.inference.weights import load_checkpoint, of_file
from cmgan_jax.interop.naming import discriminator_from_torch
from cmgan_jax.interop.weights_file import WeightsFile, read_weights_file
from cmgan_jax.models.networks import Networks
from cmgan_jax.recipes import PRESETS, flatten, make_config
from cmgan_jax.runs.folder import expanded
from cmgan_jax.training.provenance import digest
from cmgan_jax.training.state import TrainState, initialise_around, start_training

FRESH, SAME = "a fresh discriminator", "the discriminator of the same place"

_WITHOUT = "leave --start-discriminator out, and the discriminator is fresh"


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        generator: its variables, `params` and `batch_stats`.
        discriminator: likewise; None: fresh, of the run's seed.
        config: the numbers that they were trained with.
        assumed: a file tells no numbers: hop and compression are taken to be those of the run.
        about: what is recorded of it: `origin` (checkpoint or file), `digest` of the weights, and what is known of
            where they come from. Ready for JSON.
    """

    generator: dict[str, Any]
    discriminator: dict[str, Any] | None
    config: Config
    assumed: bool
    about: Mapping[str, Any]

    def state(self, config: Config, networks: Networks | None = None) -> TrainState:
        """Both networks at step 0, with fresh optimisers and, where the config has one, a fresh moving average."""
        generator = jax.tree.map(jnp.asarray, self.generator)
        if self.discriminator is None:
            return initialise_around(generator, config, networks)
        return start_training(generator, jax.tree.map(jnp.asarray, self.discriminator), config)


def read_start(path: Path, discriminator: bool = False) -> Start:
    """Read weights to begin with.

    The generator of a checkpoint is the one that is validated and used: the moving average, where training kept one.

    Args:
        path: a run folder (its best checkpoint), one checkpoint, or a file of weights, PyTorch's or safetensors.
        discriminator: take the discriminator from there, too.

    Raises:
        UserError: nothing of the kind is there, it cannot be read, or it has no discriminator.
    """
    path = expanded(path).resolve()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name a run folder, a checkpoint in it, or a weights file")
    return _of_file(path, discriminator) if path.is_file() else _of_checkpoint(path, discriminator)


def refuse_misfit(start: Start, config: Config, run: str = "the run") -> None:
    """Weights must be of the sizes that the run is to train, and made for its spectra.

    Args:
        start: the weights.
        config: the run's configuration.
        run: its name, for the message.

    Raises:
        UserError: every number that differs, with both values, and the flags that would make the run fit.
    """
    there, here = flatten(start.config), flatten(config)
    needed = [name for name in here if _decides(name, start)]
    differing = [name for name in needed if there[name] != here[name]]
    if not differing:
        return
    fitting = [name for name in PRESETS if all(flatten(make_config(preset=name))[of] == there[of] for of in needed)]
    flags = " ".join(f"--{name.replace('_', '-')} {there[name]}" for name in differing)
    raise UserError(
        "\n".join(
            [
                f"--start {start.about['origin']}: its weights do not fit {run}:",
                *(f"  {name}: {there[name]} there, {here[name]} here" for name in differing),
                f"give it their sizes: {f'--preset {fitting[0]}' if fitting else flags}",
            ]
        )
    )


def _decides(name: str, start: Start) -> bool:
    """Whether weights of another such number are no use: what computes no result may change, and no file tells all."""
    if start.assumed and name.startswith("spectral."):
        return name == "spectral.n_fft"
    sections = ("generator.", "spectral.", *(() if start.discriminator is None else ("discriminator.",)))
    return name.startswith(sections) and not name.endswith((".dropout", ".recompute", ".backend"))


def _of_checkpoint(path: Path, discriminator: bool) -> Start:
    networks = load_checkpoint(path)
    imported = networks.provenance.get("imported")
    if discriminator and imported and not imported.get("discriminator"):
        raise UserError(f"{path}: it was imported without a discriminator; {_WITHOUT}")
    about = {
        "kind": "checkpoint" if networks.origin == path else "run",
        "step": networks.step,
        "generator": "its moving average" if networks.averaged else "as trained",
        "revision": networks.provenance.get("source") or None,
        **({"imported": imported} if imported else _recipe(networks.config)),
    }
    variables = networks.discriminator if discriminator else None
    return _start(networks.origin, networks.generator, variables, networks.config, about)


def _of_file(path: Path, discriminator: bool) -> Start:
    file = read_weights_file(path)
    weights = of_file(path, file)
    about = {
        "kind": {"pt": "pytorch"}.get(file.format, file.format),
        "step": weights.step,
        "generator": "its moving average" if file.note.get("averaged") else None,
        "revision": file.note.get("source") or None,
        **({} if weights.assumed else _recipe(weights.config)),
    }
    config, variables = weights.config, None
    if discriminator:
        sizes, variables = _discriminator(path, file, config)
        config = replace(config, discriminator=sizes)
    return _start(path, weights.variables, variables, config, about, weights.assumed)


def _discriminator(path: Path, file: WeightsFile, config: Config) -> tuple[DiscriminatorConfig, dict[str, Any]]:
    try:
        return discriminator_from_torch(file.content, config.discriminator)
    except UserError as error:
        raise UserError(
            f"{path}: no discriminator can be taken from it; {_WITHOUT}, or make a run of both "
            f"(cmgan import --discriminator) and name that:\n{error}"
        ) from error


def _recipe(config: Config) -> dict[str, str]:
    return {"recipe": config.recipe, "preset": config.preset}


def _start(
    origin: Path,
    generator: dict[str, Any],
    discriminator: dict[str, Any] | None,
    config: Config,
    about: Mapping[str, Any],
    assumed: bool = False,
) -> Start:
    which = {"discriminator": SAME if discriminator else FRESH}
    weights = digest([generator, discriminator] if discriminator else generator)
    recorded = {"origin": str(origin), "digest": weights, **about, **which}
    return Start(generator, discriminator, config, assumed, recorded)
