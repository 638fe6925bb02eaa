"""Export a checkpoint's networks as state dicts of the published code, for PyTorch or as safetensors."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from cmgan_jax.errors import UserError
from cmgan_jax.inference.weights import load_checkpoint
from cmgan_jax.interop.naming import discriminator_to_torch, generator_to_torch
from cmgan_jax.interop.weights_file import SUFFIXES, Format, write_weights_file
from cmgan_jax.recipes import to_dict
from cmgan_jax.runtime import find_devices, prepare_programs
from cmgan_jax.system.outputs import refuse_folder


@dataclass(frozen=True)
class Arguments:
    """Write generator.pt and discriminator.pt, which torch.load reads and the published code's networks accept.

    The settings that no tensor shows (hop, window, compression, dropout and all others of the run) are included: in a
    record that PyTorch ignores, or in the metadata of safetensors.
    """

    checkpoint: Path
    """Run folder or checkpoint."""
    out: Path
    """Folder for both files; or a name that ends in .pt or .safetensors, for the generator only. Existing files are
    never replaced."""
    step: int | None = None
    """Which checkpoint of a run folder; without it, the best."""
    format: Format = "pt"
    """Format of the files in a folder: `pt` or `safetensors`."""


def export_weights(checkpoint: Path, out: Path, step: int | None = None, format: Format = "pt") -> list[Path]:
    """Write the networks; the generator is the one used for validation (the moving average, if there is one).

    Args:
        checkpoint: a run folder or a checkpoint.
        out: a folder, or a file *.pt or *.safetensors for the generator alone.
        step: which checkpoint of a run folder.
        format: format of the files in a folder.

    Returns:
        The paths of the files.

    Raises:
        UserError: there is no such checkpoint, or a file exists or cannot be written.
    """
    alone = out.suffix in SUFFIXES.values()
    files = [out] if alone else [out / f"{part}{SUFFIXES[format]}" for part in ("generator", "discriminator")]
    for file in files:
        if file.exists():
            raise UserError(f"{file} exists already: choose another --out")
    refuse_folder("--out", files[0].parent)
    networks = load_checkpoint(checkpoint, step)
    contents = (generator_to_torch(networks.generator, networks.step), discriminator_to_torch(networks.discriminator))
    note = {
        "config": to_dict(networks.config),
        "step": networks.step,
        "averaged": networks.averaged,
        "source": networks.provenance.get("source"),
    }
    files[0].parent.mkdir(parents=True, exist_ok=True)
    for file, content in zip(files, contents, strict=False):
        write_weights_file(file, content, note)
    return files


def main() -> None:
    """Parse arguments, export, and report what was written."""
    arguments = tyro.cli(Arguments, prog="cmgan export weights")
    prepare_programs()
    find_devices()
    for file in export_weights(arguments.checkpoint, arguments.out, arguments.step, arguments.format):
        print(file)
