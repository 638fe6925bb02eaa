"""Make a run folder from files of weights (PyTorch or safetensors), which all other commands can use."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from cmgan_jax.config import Config, DiscriminatorConfig, SpectralConfig
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.inference.weights import of_file
from cmgan_jax.interop.naming import discriminator_from_torch
from cmgan_jax.interop.weights_file import WeightsFile, read_weights_file
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.recipes import from_dict, to_dict
from cmgan_jax.runs.folder import ABOUT
from cmgan_jax.runtime import find_devices, prepare_programs
from cmgan_jax.spectral import frame_count
from cmgan_jax.system.outputs import refuse_folder, refuse_undecodable, settle, write_json
from cmgan_jax.training import provenance
from cmgan_jax.training.checkpoint import CheckpointStore
from cmgan_jax.training.position import Position
from cmgan_jax.training.state import RUN_ONCE, TrainState, start_training


@dataclass(frozen=True)
class Analysis:
    """Settings of the spectra, which no tensor shows; omitted ones are taken from the file, or the published code.

    Attributes:
        n_fft: window and transform length in samples.
        hop: samples between frames.
        exponent: power-law compression of magnitudes.
    """

    n_fft: int | None = None
    """Window and transform length in samples (published: 400)."""
    hop: int | None = None
    """Samples between frames (published: 100)."""
    exponent: float | None = None
    """Power-law compression of magnitudes (published: 0.3)."""


@dataclass(frozen=True)
class Arguments:
    """Make a run folder from weights, to enhance with, evaluate, or fine-tune (cmgan train --start)."""

    generator: Path
    """State dict of the generator, as written by torch.save or safetensors."""
    out: Path
    """Run folder to make."""
    discriminator: Path | None = None
    """State dict of the discriminator; without it, the run's discriminator is random."""
    spectral: Analysis = field(default_factory=Analysis)
    """Settings of the spectra, if the file does not have them and they differ from the published code's."""


def import_weights(generator: Path, discriminator: Path | None, out: Path, spectral: Analysis | None = None) -> int:
    """Write weights as a run folder: run.json, and the same checkpoint in best/ and latest/.

    The config is the one stored with the weights if this project exported them, otherwise `published_2022` with the
    tensors' sizes. Optimisers start from scratch; the step is the number of training batches counted by the generator's
    batch norms.

    Args:
        generator: the generator's state dict, a file of PyTorch or safetensors.
        discriminator: the same for the discriminator; None for random weights.
        out: a folder that does not exist, or an empty one.
        spectral: settings of the spectra, if the file does not have them.

    Returns:
        The step.

    Raises:
        UserError: `out` is not empty, or a file cannot be read, holds another network, or was made for other spectra.
    """
    refuse_occupied(out)
    file = read_weights_file(generator)
    weights = of_file(generator, file, _asked(generator, file, spectral or Analysis()))
    config = weights.config
    if discriminator is None:
        discriminator_variables = random_discriminator(config)
    else:
        discriminator_config, discriminator_variables = _discriminator(discriminator, config)
        config = replace(config, discriminator=discriminator_config)
    check(config)
    variables, discriminator_variables = jax.tree.map(jnp.asarray, (weights.variables, discriminator_variables))
    state = at_step(start_training(variables, discriminator_variables, config), weights.step)
    sources = {"generator": generator, "discriminator": discriminator}
    about = {
        "config": to_dict(config),
        # No corpus is recorded: a run that starts from these weights names its own.
        "source": {"data": "", "speech": [], "noise": [], "skip_bad": False},
        "provenance": provenance.describe("", "imported weights, corpus unknown")
        | {"imported": {part: path and describe_file(path) for part, path in sources.items()}},
    }
    write_run(out, about, state, weights.step)
    return weights.step


def _asked(path: Path, file: WeightsFile, spectral: Analysis) -> SpectralConfig | None:
    """Return the requested analysis settings; None if there are none.

    Raises:
        UserError: the file has other settings.
    """
    asked = {name: value for name, value in vars(spectral).items() if value is not None}
    if not asked:
        return None
    if file.config and (spectra := file.config.spectral) != (other := replace(spectra, **asked)):
        raise UserError(f"{path}: its spectra are {spectra}, as is recorded in it, not {other}; leave --spectral out")
    return replace(SpectralConfig(), **asked)


def _discriminator(path: Path, config: Config) -> tuple[DiscriminatorConfig, dict[str, Any]]:
    content = read_weights_file(path).content
    try:
        return discriminator_from_torch(content, config.discriminator)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def refuse_occupied(out: Path) -> None:
    """Check the folder before any work.

    Raises:
        UserError: it is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: choose another --out")
    refuse_folder("--out", out)
    refuse_undecodable("--out", out)


def random_discriminator(config: Config) -> dict[str, Any]:
    """Initialise a discriminator's variables for the start of a training, from the config's seed."""
    magnitude = jnp.ones((1, frame_count(config.crop_samples, config.spectral), config.spectral.bins))
    key = jax.random.split(jax.random.key(config.seed))[1]
    init = jax.jit(Discriminator(config.discriminator).init, compiler_options=RUN_ONCE)
    return dict(init(key, magnitude, magnitude))


def at_step(state: TrainState, step: int) -> TrainState:
    """Return the state with its step counters set to `step`."""
    count = jnp.asarray(step, jnp.int32)
    return replace(
        state, generator=replace(state.generator, step=count), discriminator=replace(state.discriminator, step=count)
    )


def describe_file(path: Path) -> dict[str, str]:
    """Return a file's name and SHA-256."""
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_run(out: Path, about: dict[str, Any], state: TrainState, step: int) -> None:
    """Write a run folder atomically."""
    out = out.absolute()  # `.` has no name of its own.
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        write_json(part / ABOUT, about)
        store = CheckpointStore(part)
        store.save(step, state, about | {"position": Position(step=step).to_dict()}, best=True)
        store.close()
        if (error := store.failure(wait=True)) is not None:
            raise error
        settle(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def main() -> None:
    """Parse arguments, import, and report what was made."""
    arguments = tyro.cli(Arguments, prog="cmgan import")
    prepare_programs()
    find_devices()
    out = arguments.out
    step = import_weights(arguments.generator, arguments.discriminator, out, arguments.spectral)
    if arguments.discriminator is None:
        print("no --discriminator: the run's discriminator has random weights, which matters only to a training")
    spectral = from_dict(json.loads((out / ABOUT).read_text())["config"]).spectral
    print(
        f"{out}: the weights are there as best and latest of step {step}; spectra: window {spectral.n_fft}, hop "
        f"{spectral.hop}, exponent {spectral.exponent}"
    )
    print(f"clean a recording:  cmgan enhance --checkpoint {out} --out enhanced FILE...")
    print(f"fine-tune:  cmgan train --start {out} --data DIR --out runs/NAME")
