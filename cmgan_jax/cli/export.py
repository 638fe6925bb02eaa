"""Export an enhancer as one file that runs without the model's code: StableHLO programs and their weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array, export

from cmgan_jax import extras
from cmgan_jax.errors import UserError
from cmgan_jax.inference.enhance import WindowConfig, enhanced_rows, network, variables_of
from cmgan_jax.inference.export import write_artefact
from cmgan_jax.inference.weights import Weights, load
from cmgan_jax.models.networks import trusting
from cmgan_jax.recipes import override, to_dict
from cmgan_jax.runtime import find_devices, prepare_programs
from cmgan_jax.system.outputs import refuse_file
from cmgan_jax.training import provenance

Platform = Literal["cpu", "cuda", "rocm", "tpu"]


@dataclass(frozen=True)
class Arguments:
    """Write an enhancer as a jax.export artefact (see cmgan_jax/inference/export.py); `load_artefact` reads it."""

    checkpoint: Path
    """Run folder, checkpoint, or a file of weights (PyTorch or safetensors)."""
    out: Path
    """File to write; it must not exist."""
    step: int | None = None
    """Which checkpoint of a run folder; without it, the best."""
    generator_module: str = ""
    """MODULE:NAME of your own generator, for a run that was trained with it. Importing it runs its code."""
    platforms: tuple[Platform, ...] = ()
    """Platforms to export for; without it, those of this machine."""
    windows: Annotated[WindowConfig, tyro.conf.arg(name="")] = field(default_factory=WindowConfig)


def export_enhancer(weights: Weights, windows: WindowConfig, out: Path, platforms: tuple[Platform, ...] = ()) -> None:
    """Write an artefact.

    Args:
        weights: the generator.
        windows: how long recordings are cut into windows, which decides the shapes of the programs.
        out: a file that does not exist.
        platforms: platforms to export for; none: those of this machine.

    Raises:
        UserError: the file exists, cannot be written, or the window sizes are invalid.
    """
    refuse_target(out)
    config = weights.config
    of_whole, of_windows = variables_of(weights.variables, config, windows)
    shapes = network(weights.variables, config, windows, networks=weights.networks)
    leaves, tree = jax.tree.flatten(of_whole)
    # Other machines may lack the custom kernels.
    plain = override(config, {"generator.backend": "xla"})
    networks = weights.network_factory(plain, None)

    def program(weights: list[Array], padded: Array, frames: Array) -> Any:
        return enhanced_rows(jax.tree.unflatten(tree, weights), padded, frames, config=plain, networks=networks)

    lower = export.export(jax.jit(program), platforms=platforms or None)
    arguments = [jax.ShapeDtypeStruct(np.shape(leaf), jnp.float32) for leaf in leaves]
    reflected = config.spectral.n_fft
    programs = {}
    for batch, samples in shapes.buckets:
        padded = jax.ShapeDtypeStruct((batch, samples + reflected), jnp.float32)
        lowered = lower(arguments, padded, jax.ShapeDtypeStruct((batch,), jnp.int32))
        try:
            programs[batch, samples] = bytes(lowered.serialize())
        except ImportError as error:
            raise UserError(extras.install("export")) from error
    about = provenance.describe("", "") | {
        "checkpoint": weights.origin.name,
        "step": weights.step,
        "config": to_dict(config),
    }
    write_artefact(out, shapes, programs, _arrays(of_whole), _arrays(of_windows), about)


def refuse_target(out: Path) -> None:
    """Raise an error if the file exists or cannot be written.

    Raises:
        UserError: it exists or cannot be written; the message has the remedy.
    """
    if out.exists():
        raise UserError(f"{out} exists already: choose another --out")
    refuse_file("--out", out)


def _arrays(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(tree)]


def main() -> None:
    """Parse arguments, export, and report what was written."""
    arguments = tyro.cli(Arguments, prog="cmgan export stablehlo", config=(tyro.conf.FlagCreatePairsOff,))
    refuse_target(arguments.out)
    prepare_programs()
    find_devices()
    weights = load(arguments.checkpoint, arguments.step, trusting(arguments.generator_module))
    export_enhancer(weights, arguments.windows, arguments.out, arguments.platforms)
    print(f"{arguments.out}: the generator of {weights.origin}, {arguments.out.stat().st_size / 2**20:.1f} MiB")
