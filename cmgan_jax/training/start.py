"""Initial weights of a run from another run, a checkpoint or a file, instead of random ones."""

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
    """Initial weights of a run.

    Attributes:
        generator: variables of the generator, `params` and `batch_stats`.
        discriminator: variables of the discriminator; None: a new one, initialised from the run's seed.
        config: the config that they were trained with.
        assumed: whether the weights come from a file without a config; hop and compression are then assumed to be
            those of the run.
        about: record of the weights, ready for JSON: `origin` (checkpoint or file), `digest`, and what is known about
            their provenance.
    """

    generator: dict[str, Any]
    discriminator: dict[str, Any] | None
    config: Config
    assumed: bool
    about: Mapping[str, Any]

    def state(self, config: Config, networks: Networks | None = None) -> TrainState:
        """Training state at step 0, with new optimiser states and, if the config has one, a new moving average."""
        generator = jax.tree.map(jnp.asarray, self.generator)
        if self.discriminator is None:
            return initialise_around(generator, config, networks)
        return start_training(generator, jax.tree.map(jnp.asarray, self.discriminator), config)


def read_start(path: Path, discriminator: bool = False) -> Start:
    """Read initial weights.

    From a checkpoint, the generator is the one that is validated and used: the moving average, if there is one.

    Args:
        path: a run folder (its best checkpoint), one checkpoint, or a file of weights (PyTorch or safetensors).
        discriminator: whether to read the discriminator, too.

    Raises:
        UserError: the path holds no weights, cannot be read, or has no discriminator although one is wanted.
    """
    path = expanded(path).resolve()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name a run folder, a checkpoint in it, or a weights file")
    return _of_file(path, discriminator) if path.is_file() else _of_checkpoint(path, discriminator)


def refuse_misfit(start: Start, config: Config, run: str = "the run") -> None:
    """Check that weights have the sizes of the run's networks, and were trained with its spectral settings.

    Args:
        start: the weights.
        config: the run's configuration.
        run: name of the run, for the message.

    Raises:
        UserError: settings differ; the message lists each with both values, and flags that would make the run fit.
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
    """Whether a setting must agree with that of the weights.

    Settings that do not change the network's function may differ, and so may those that a file does not record.
    """
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
