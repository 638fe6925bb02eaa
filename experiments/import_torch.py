"""Make a run folder of a published PyTorch checkpoint, which everything else restores."""

import hashlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.evaluation.weights import PUBLISHED, refuse_other_bins
from cmgan_jax.interop.naming import batches_tracked, discriminator_from_torch, generator_from_torch
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.outputs import settle, write_json
from cmgan_jax.recipes import make_config, to_dict
from cmgan_jax.runs import ABOUT
from cmgan_jax.spectral import frame_count
from cmgan_jax.training import provenance
from cmgan_jax.training.checkpoint import CheckpointStore
from cmgan_jax.training.position import Position
from cmgan_jax.training.state import RUN_ONCE, TrainState, start_training
from experiments._cli import run


@dataclass(frozen=True)
class Arguments:
    """Make a run folder of published PyTorch weights."""

    generator: Path
    """State dict of the generator, as torch.save wrote it."""
    out: Path
    """Run folder to make."""
    discriminator: Path | None = None
    """State dict of the discriminator; without it the run's discriminator is random."""


def import_weights(generator: Path, discriminator: Path | None, out: Path) -> int:
    """Write published weights as a run folder: run.json, and the same checkpoint under best/ and latest/.

    The config is `published_2022` with the sizes that the tensors have. Optimisers begin afresh; the step is the
    number of training batches that the generator's batch norms have counted.

    Args:
        generator: its state dict, a PyTorch file.
        discriminator: likewise; None: random weights.
        out: a folder that does not exist, or an empty one.

    Returns:
        The step.

    Raises:
        UserError: `out` is occupied, a file cannot be read or holds another network, or is made for other spectra.
    """
    refuse_occupied(out)
    content = read_torch_file(generator)
    sizes, variables = generator_from_torch(content)
    config = replace(make_config(PUBLISHED), generator=sizes)
    refuse_other_bins(generator, variables, config)
    if discriminator is None:
        judge = random_discriminator(config)
    else:
        judge_sizes, judge = discriminator_from_torch(read_torch_file(discriminator))
        config = replace(config, discriminator=judge_sizes)
    check(config)
    step = batches_tracked(content)
    variables, judge = jax.tree.map(jnp.asarray, variables), jax.tree.map(jnp.asarray, judge)
    state = at_step(start_training(variables, judge, config), step)
    sources = {"generator": generator, "discriminator": discriminator}
    about = {
        "config": to_dict(config),
        # No corpus: a run that goes on from here names its own.
        "source": {"data": "", "speech": [], "noise": [], "skip_bad": False},
        "provenance": provenance.describe("", "weights imported from PyTorch, corpus unknown")
        | {"imported": {part: path and describe_file(path) for part, path in sources.items()}},
    }
    write_run(out, about, state, step)
    return step


def refuse_occupied(out: Path) -> None:
    """Check the folder before any work.

    Raises:
        UserError: something is there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: choose another --out")


def random_discriminator(config: Config) -> dict[str, Any]:
    """Variables of a discriminator at the start of a training, drawn from the config's seed."""
    magnitude = jnp.ones((1, frame_count(config.crop_samples, config.spectral), config.spectral.bins))
    key = jax.random.split(jax.random.key(config.seed))[1]
    init = jax.jit(Discriminator(config.discriminator).init, compiler_options=RUN_ONCE)
    return dict(init(key, magnitude, magnitude))


def at_step(state: TrainState, step: int) -> TrainState:
    """The same state after so many steps."""
    count = jnp.asarray(step, jnp.int32)
    return replace(
        state, generator=replace(state.generator, step=count), discriminator=replace(state.discriminator, step=count)
    )


def describe_file(path: Path) -> dict[str, str]:
    """Name and SHA-256 of a file."""
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_run(out: Path, about: dict[str, Any], state: TrainState, step: int) -> None:
    """Write a run folder whole or not at all."""
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
    """Parse, import, say what was made."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.import_torch")
    step = import_weights(arguments.generator, arguments.discriminator, arguments.out)
    if arguments.discriminator is None:
        print("no --discriminator: the run's discriminator has random weights, which matters only to a training")
    print(f"{arguments.out}: the weights are there as best and latest of step {step}")
    print(f"clean a recording:  python -m experiments.enhance --checkpoint {arguments.out} --out enhanced FILE...")


if __name__ == "__main__":
    run(main)
