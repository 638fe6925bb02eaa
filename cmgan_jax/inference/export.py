"""A single-file enhancer that runs without the model's code: StableHLO programs and their weights.

The file is a zip (stored, not compressed):

- `about.json`: `format`, the analysis (`spectral`), the windows (`layout`), the `buckets` and the `provenance`;
- `program-B-S.jax`: for each bucket (B, S), the StableHLO that `jax.export` serialises, of a function from the weights,
  float32[B, S + n_fft] and int32[B] to float32[B, S] (see `pieces.Network`);
- `weights.npz`: the weights in the order of the function's arguments, `0`, `1`, …; `windows-N` replaces `N` for windows
  of long audio, where distances are clamped.

JAX guarantees to load such programs for at least six months after they were written.
"""

import io
import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from cmgan_jax import extras
from cmgan_jax.config import SpectralConfig
from cmgan_jax.errors import UserError
from cmgan_jax.inference.pieces import Network
from cmgan_jax.inference.processor import Processor
from cmgan_jax.inference.windows import Layout
from cmgan_jax.system.inputs import open_regular, refuse_inflating
from cmgan_jax.system.outputs import replacing

FORMAT = 1
"""File-format version; other versions are rejected."""
ABOUT, WEIGHTS = "about.json", "weights.npz"


def program_name(bucket: tuple[int, int]) -> str:
    """Name of a bucket's program in the file."""
    return f"program-{bucket[0]}-{bucket[1]}.jax"


def write_artefact(
    file: Path,
    network: Network,
    programs: dict[tuple[int, int], bytes],
    weights: list[np.ndarray],
    of_windows: list[np.ndarray],
    provenance: dict[str, Any],
) -> None:
    """Write an artefact.

    Args:
        file: path of the artefact; it must not exist.
        network: the network whose buckets, spectral settings and windows are stored.
        programs: programs serialised by `jax.export`, by bucket.
        weights: weights in the order of the programs' arguments.
        of_windows: weights for windows of long audio, in the same order.
        provenance: origin of the weights.

    Raises:
        UserError: the file exists or cannot be written.
    """
    arrays = {str(i): array for i, array in enumerate(weights)}
    arrays |= {
        f"windows-{i}": other
        for i, (array, other) in enumerate(zip(weights, of_windows, strict=True))
        if not np.array_equal(array, other)
    }
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # pyright: ignore[reportArgumentType]
    about = {
        "format": FORMAT,
        "spectral": asdict(network.spectral),
        "layout": asdict(network.layout),
        "buckets": network.buckets,
        "provenance": provenance,
    }
    if file.exists():
        raise UserError(f"{file} exists already: choose another --out")
    try:
        with replacing(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(ABOUT, json.dumps(about, indent=2))
            archive.writestr(WEIGHTS, packed.getvalue())
            for bucket, program in programs.items():
                archive.writestr(program_name(bucket), program)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror or error}") from error


def load_artefact(file: str | Path) -> Processor:
    """Load an enhancer that `cmgan export stablehlo` wrote.

    Args:
        file: the artefact.

    Returns:
        A processor with the methods of `Enhancer`: `.enhance(audio, sample_rate)`, `.stream(sample_rate)`.

    Raises:
        UserError: the file is missing or no artefact, has another format, or was made for another kind of device.
    """
    file = Path(file)
    try:
        with open_regular(file) as opened, zipfile.ZipFile(opened) as archive:
            size = os.fstat(opened.fileno()).st_size
            refuse_inflating(archive, size)
            about = json.loads(archive.read(ABOUT))
            if about["format"] != FORMAT:
                raise UserError(f"{file} has format {about['format']}, and this version reads {FORMAT}: export it anew")
            buckets = tuple((int(batch), int(samples)) for batch, samples in about["buckets"])
            programs = {bucket: export.deserialize(bytearray(archive.read(program_name(bucket)))) for bucket in buckets}
            packed = io.BytesIO(archive.read(WEIGHTS))
            with zipfile.ZipFile(packed) as inner:
                refuse_inflating(inner, size)
            with np.load(packed) as arrays:
                count = sum(name.isdecimal() for name in arrays.files)
                weights = [arrays[str(i)] for i in range(count)]
                of_windows = [
                    arrays[f"windows-{i}"] if f"windows-{i}" in arrays.files else weights[i] for i in range(count)
                ]
        spectral, layout = SpectralConfig(**about["spectral"]), Layout(**about["layout"])
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error
    except ImportError as error:
        raise UserError(extras.install("export")) from error
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"{file} is no artefact of cmgan export stablehlo ({error})") from error
    platforms = programs[buckets[0]].platforms
    if jax.default_backend() not in {"gpu" if name in ("cuda", "rocm") else name for name in platforms}:
        raise UserError(f"{file} is made for {', '.join(platforms)}, and JAX runs on {jax.default_backend()} here")
    whole, windows = jax.device_put((weights, of_windows))
    # With jit, a program is compiled once instead of at every call.
    calls = {bucket: jax.jit(program.call) for bucket, program in programs.items()}

    def call(padded: np.ndarray, frames: np.ndarray, part: bool) -> np.ndarray:
        bucket = (padded.shape[0], padded.shape[1] - spectral.n_fft)
        return np.asarray(calls[bucket](windows if part else whole, padded, frames))

    return Processor(Network(spectral, layout, buckets, call))
