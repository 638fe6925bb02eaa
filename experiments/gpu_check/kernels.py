"""Kernels and whole networks beside the plain form and the published reference: one process on one device.

    python -m experiments.gpu_check.kernels --what layers --json layers.json

The reference is the folder that `tests/test_parity.py` reads: weights, inputs and outputs of the published code.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

from cmgan_jax.benchmarking import report
from cmgan_jax.benchmarking.material import make_crops
from cmgan_jax.cli._cli import run
from cmgan_jax.config import Backend, Config, Precision
from cmgan_jax.errors import UserError
from cmgan_jax.interop.naming import generator_from_torch
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.models import kernels
from cmgan_jax.models.networks import make_networks
from cmgan_jax.precision import PRODUCTS, as_configured
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runtime import find_devices, prepare_programs
from cmgan_jax.system.outputs import refuse_file, write_json
from cmgan_jax.training.state import initialise
from cmgan_jax.training.steps import features
from experiments.gpu_check import layers

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
TYPES = {"fp32": jnp.float32, "tf32": jnp.float32, "bf16": jnp.bfloat16}
"""Of a layer's input, by precision."""
PARITY = 1e-4
"""Largest deviation of the generator's output from the reference in float32, as `tests/test_parity.py` allows."""
GRADIENT = 1e-3
"""Largest error of the whole gradient in float32, of its norm."""
LEAST = {"generator.blocks": 0, "generator.dense_depth": 0}
"""Changes to preset `tiny` for a rehearsal."""
BACKENDS: tuple[Backend, ...] = ("xla", "triton")


@dataclass(frozen=True)
class Arguments:
    """Compare kernels with the plain form, and both with the published reference."""

    json: Path
    """File for all figures."""
    what: Literal["layers", "networks"] = "layers"
    """Single layers, or whole generators."""
    reference: Path = Path("../shared/reference")
    """Folder of the published weights and outputs; without it networks have random weights."""
    rehearse: bool = False
    """The smallest sizes, and the plain form in the place of kernels."""


def compare_layers(names: tuple[str, ...], backend: Backend) -> list[dict[str, Any]]:
    """Compare values and gradients of layers with the plain form in float32.

    Args:
        names: keys of `layers.PARTS`.
        backend: the form that is compared.

    Returns:
        For each layer and precision its worst error, what is allowed, and the plain form's own error.
    """
    rows = []
    for name in names:
        plain, other = layers.part(name, "xla"), layers.part(name, backend)
        exact = layers.passes(plain, jnp.float32)
        rounded = layers.worst(layers.passes(plain, jnp.bfloat16), exact)
        for precision in PRECISIONS:
            found = layers.passes(other, TYPES[precision], PRODUCTS[precision])
            allowed = layers.EXACT if precision == "fp32" else layers.allowed(rounded)
            error = layers.worst(found, exact)
            rows.append({"layer": name, "precision": precision, "error": error, "allowed": allowed, "plain": rounded})
            print(f"{name}, {precision}: {error:.1e} (allowed {allowed:.1e})", flush=True)
    return rows


@as_configured
def enhance(variables: Any, noisy: Array, *, config: Config) -> Array:
    """The generator in evaluation, complex[B, T, F] to complex[B, T, F]."""
    return cast(Array, make_networks(config).generator.apply(variables, noisy))


@as_configured
def gradient(variables: Any, noisy: Array, clean: Array, *, config: Config) -> Any:
    """Gradient of the mean square of the error in training, dropout on, by parameter."""

    def loss(params: Any) -> Array:
        found: Any = make_networks(config).generator.apply(
            {**variables, "params": params},
            noisy,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )
        return jnp.mean(jnp.abs(found[0] - clean) ** 2)

    return jax.grad(loss)(variables["params"])


def compare_networks(
    config: Config,
    variables: Any,
    noisy: Array,
    clean: Array,
    published: np.ndarray | None,
    backends: tuple[Backend, ...],
) -> list[dict[str, Any]]:
    """Compare whole generators with the plain form in float32, and with the published output.

    Args:
        config: sizes.
        variables: weights and batch statistics of the generator.
        noisy: complex[B, T, F], compressed spectra.
        clean: complex[B, T, F].
        published: complex[B, T, F], what the published code makes of `noisy`; None: not known.
        backends: forms that are compared.

    Returns:
        For each form and precision: `value` and `gradient`, errors as shares of the exact norm, and `published`, the
        largest deviation from the published output over its largest value.
    """
    rows, exact = [], None
    for precision in PRECISIONS:
        for backend in backends:
            sized = replace(config, precision=precision, generator=replace(config.generator, backend=backend))
            value = np.asarray(jax.jit(partial(enhance, config=sized))(variables, noisy))
            found = jax.device_get(jax.jit(partial(gradient, config=sized))(variables, noisy, clean))
            exact = exact or (value, found)
            row: dict[str, Any] = {"backend": backend, "precision": precision}
            row |= {"value": _error([value], [exact[0]]), "gradient": _error(found, exact[1])}
            if published is not None:
                row["published"] = float(np.max(np.abs(value - published)) / np.max(np.abs(published)))
            rows.append(row)
            print(", ".join(f"{key} {of:.1e}" if isinstance(of, float) else of for key, of in row.items()), flush=True)
    return rows


def _error(found: Any, exact: Any) -> float:
    """Norm of the error of all arrays together, of the exact norm."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True))
    error = sum(float(np.linalg.norm(np.asarray(a) - np.asarray(b))) ** 2 for a, b in pairs)
    return float(np.sqrt(error / sum(float(np.linalg.norm(b)) ** 2 for _, b in pairs)))


def networks_of(arguments: Arguments) -> tuple[Config, Any, Array, Array, np.ndarray | None]:
    """Sizes, weights, spectra and the published output: those of the reference, or made up where it is absent."""
    folder = arguments.reference
    if folder.is_dir() and not arguments.rehearse:
        numbers = dict(np.load(folder / "reference.npz"))
        sizes, variables = generator_from_torch(read_torch_file(folder / "generator.pt"))
        noisy, clean = (
            jnp.asarray((numbers[f"{name}_spec"][:, 0] + 1j * numbers[f"{name}_spec"][:, 1]).transpose(order))
            for name, order in (("noisy", (0, 1, 2)), ("clean", (0, 2, 1)))
        )
        published = (numbers["eval_real"] + 1j * numbers["eval_imag"])[:, 0]
        return Config(generator=replace(sizes, dropout=Config().generator.dropout)), variables, noisy, clean, published
    config = override(make_config(preset="tiny"), LEAST) if arguments.rehearse else make_config()
    crops = make_crops(2, config.data.crop_seconds, config.spectral.sample_rate)
    spectra = features({name: jnp.asarray(wave, jnp.float32) for name, wave in crops.items()}, config)
    return config, initialise(config).validated, spectra.noisy_spectrum, spectra.clean_spectrum, None


def main() -> None:
    """Parse, compare, write."""
    arguments = tyro.cli(
        Arguments, prog="python -m experiments.gpu_check.kernels", config=(tyro.conf.FlagCreatePairsOff,)
    )
    refuse_file("--json", arguments.json)
    prepare_programs()
    find_devices()
    if not (kernels.available() or arguments.rehearse):
        raise UserError(
            kernels.lacking()
            or "no kernels here: they need an NVIDIA GPU of 2020 or later; --rehearse does without them"
        )
    found: dict[str, Any] = {"machine": report.machine(), "kernels": kernels.available()}
    backends: tuple[Backend, ...] = BACKENDS if kernels.available() else ("xla",)
    if arguments.what == "layers":
        found["layers"] = compare_layers(layers.SMALLEST if arguments.rehearse else tuple(layers.PARTS), backends[-1])
    else:
        found["networks"] = compare_networks(*networks_of(arguments), backends)
    write_json(arguments.json, found)


if __name__ == "__main__":
    run(main)
