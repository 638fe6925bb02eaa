"""The generator out of whatever a person calls a checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from cmgan_jax.config import Config, SpectralConfig
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.interop import foreign
from cmgan_jax.interop.naming import (
    batches_tracked,
    discriminator_sizes,
    discriminator_to_torch,
    generator_bins,
    generator_from_torch,
    generator_sizes,
    generator_to_torch,
    refuse_not_finite,
)
from cmgan_jax.interop.weights_file import WeightsFile, read_weights_file
from cmgan_jax.models.generator import stack_blocks
from cmgan_jax.models.networks import NetworkFactory, Networks, make_networks
from cmgan_jax.recipes import flatten, from_dict, make_config, override
from cmgan_jax.runs.folder import KEEP, expanded, find, steps_in
from cmgan_jax.system.checksums import damage

ANY_DEVICE = {"generator.backend": "auto"}
"""What is changed in the config of a run by those who use its weights, on another device maybe."""
SHIPPED = Path(__file__).parent.parent / "weights" / "small.safetensors"
"""The small model that comes with the package; its model card is docs/model-card.md."""
PUBLISHED = "published_2022"
"""Recipe of weights whose file does not tell."""


@dataclass(frozen=True)
class Weights:
    """A generator ready for use.

    Attributes:
        variables: `params` (the average, where training kept one) and `batch_stats`.
        config: the numbers it was trained with.
        origin: the file or folder that they are from.
        step: training steps behind them.
        assumed: the file tells no numbers: those that no tensor tells are the published ones.
        network_factory: builds the networks that the variables belong to.
    """

    variables: Any
    config: Config
    origin: Path
    step: int
    assumed: bool = False
    network_factory: NetworkFactory = make_networks

    @property
    def label(self) -> str:
        """What records call it: where it is from."""
        return "the small model of the package" if self.origin == SHIPPED else str(self.origin)

    @property
    def generator(self) -> nn.Module:
        """The Flax module that `variables` belong to; it takes and gives compressed complex spectra [B, T, F]."""
        return self.networks.generator

    @property
    def networks(self) -> Networks:
        """Both networks of the config, without an axis of devices."""
        return self.network_factory(self.config, None)


@dataclass(frozen=True)
class TrainedNetworks:
    """Both networks of a checkpoint.

    Attributes:
        generator: its variables, as in `Weights`.
        discriminator: likewise, the vectors of spectral norm in `batch_stats`.
        config: the numbers they were trained with.
        origin: the folder that they are from.
        step: training steps behind them.
        averaged: the generator's parameters are a moving average.
        provenance: what the run recorded of its surroundings, ready for JSON.
    """

    generator: dict[str, Any]
    discriminator: dict[str, Any]
    config: Config
    origin: Path
    step: int
    averaged: bool
    provenance: dict[str, Any]


def load(
    path: str | Path | None = None, step: int | None = None, network_factory: NetworkFactory | None = None
) -> Weights:
    """Read a generator: its weights, the numbers that it was trained with, and the Flax module that they belong to.

    For example, `weights = load("generator.pt")` and then `weights.generator.apply(weights.variables, spectrum)`, or
    `Enhancer(weights)` for recordings.

    Args:
        path: a run folder (its best checkpoint), its `latest` or `best`, one checkpoint, also one that was copied
            out of its run, or a file of weights, PyTorch's or safetensors; None: the small model that comes with the
            package.
        step: which checkpoint of a run folder; None: the best, or the newest of what is there.
        network_factory: builds the networks of a run that was trained with a generator of one's own. Such a run names
            the module of its generator, and a module that a checkpoint names is not imported unasked, since importing
            runs its code; `make_networks` here imports it.

    Returns:
        The weights; `Weights` says what they hold.

    Raises:
        UserError: nothing of the kind is there, it cannot be read, weights are not finite, or of other sizes than are
            recorded with them.
    """
    path = SHIPPED if path is None else expanded(Path(path))
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name a run folder, a checkpoint in it, or a weights file")
    if path.is_file():
        if step is not None:
            raise UserError(f"{path}: --step {step} picks a checkpoint of a run folder, and this is a file")
        return of_file(path, read_weights_file(path))
    networks = load_checkpoint(path, step)
    if (module := networks.config.generator.module) and network_factory is None:
        raise UserError(
            f"{path}: its generator is code of one's own, {module}, which runs when it is imported: add "
            f"--generator-module {module} if you trust it (in Python: network_factory=make_networks)"
        )
    factory = network_factory or make_networks
    return Weights(networks.generator, networks.config, networks.origin, networks.step, network_factory=factory)


def load_checkpoint(path: Path, step: int | None = None) -> TrainedNetworks:
    """Read both networks of a checkpoint, without optimisers, into the memory of the host.

    Args:
        path: a run folder, its `latest` or `best`, or one checkpoint.
        step: which checkpoint of a run folder.

    Raises:
        UserError: as in `load`.
    """
    path = expanded(path).resolve()
    found = path if (path / "state").is_dir() and (path / "run").is_dir() else _found_in(path, step)
    if step is not None and found == path:
        raise UserError(f"{path}: --step {step} picks a checkpoint of a run folder, and this is one checkpoint")
    refuse_damaged(found)
    import orbax.checkpoint as ocp  # here alone: files of weights are read without it

    items = ocp.CompositeCheckpointHandler(state=ocp.PyTreeCheckpointHandler(), run=ocp.JsonCheckpointHandler())
    try:
        with ocp.Checkpointer(items) as reader:
            # By what is there and not by what the networks would be: no tracing, and whatever devices wrote it.
            there = reader.metadata(found).item_metadata["state"].tree
            wanted = {
                name: {key: there[name][key] for key in ("params", "batch_stats", "step") if key in there[name]}
                for name in ("generator", "discriminator")
            }
            if there.get("average"):
                wanted["average"] = there["average"]
            as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            restored = reader.restore(
                found,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeRestore(item=wanted, restore_args=as_arrays, partial_restore=True),
                    run=ocp.args.JsonRestore(),
                ),
            )
        run, state = restored["run"], restored["state"]
        config, provenance = override(from_dict(run["config"]), ANY_DEVICE), run.get("provenance", {})
        generator, discriminator = state["generator"], state["discriminator"]
        check(config)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{found}: the checkpoint cannot be read ({error}). Use another one.") from error
    variables = {
        "params": state.get("average") or generator["params"],
        "batch_stats": generator.get("batch_stats", {}),
    }
    refuse_not_finite(str(found), flatten_dict(variables, sep="/"))
    networks = TrainedNetworks(
        # Blocks lay apart in checkpoints of earlier revisions.
        generator={kind: stack_blocks(collection) for kind, collection in variables.items()},
        discriminator={key: discriminator[key] for key in ("params", "batch_stats")},
        config=config,
        origin=found,
        step=int(generator["step"]),
        averaged=bool(state.get("average")),
        provenance=provenance,
    )
    refuse_contradiction(found, config, networks.generator, networks.discriminator)
    return networks


def _found_in(folder: Path, step: int | None) -> Path:
    """A run folder's checkpoint.

    Raises:
        UserError: there is none; files of weights that lie there instead are named.
    """
    try:
        return Path(str(find(folder, step)))
    except UserError as error:
        if (hint := foreign.described_folder(folder)) is None:
            raise
        raise UserError(f"{error} {hint}") from error


def refuse_damaged(found: Path) -> None:
    """Check that a checkpoint is as it was written.

    Raises:
        UserError: it is not; the message names the others of its run that are.
    """
    if (reason := damage(found)) is None:
        return
    folder = found.parent.parent if found.parent.name in KEEP else None
    others = [folder / kind / str(step) for kind in KEEP for step in steps_in(folder / kind)] if folder else []
    whole = [str(other) for other in others if other != found and damage(other) is None]
    remedy = f"Whole ones: {', '.join(whole)}" if whole else "There is no other in its run that is whole"
    raise UserError(f"{found} is damaged: {reason}. {remedy}")


def of_file(path: Path, file: WeightsFile, spectral: SpectralConfig | None = None) -> Weights:
    """The generator in a file of weights.

    Args:
        path: of the file.
        file: what it holds.
        spectral: how spectra are made, where the file does not say it; None: as in the published code.

    Raises:
        UserError: it holds no generator, or one that is not as the file says, or one that is made for other spectra.
    """
    recorded = file.config
    config = override(recorded or make_config(PUBLISHED), ANY_DEVICE)
    try:
        sizes, variables = generator_from_torch(file.content, config.generator)
        step = batches_tracked(file.content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if recorded:
        refuse_contradiction(path, config, variables)
    else:
        config = replace(config, generator=sizes, spectral=spectral or config.spectral)
        refuse_other_bins(path, variables, config)
        check(config)
    return Weights(variables, config, path, step or int(file.note.get("step", 0)), assumed=recorded is None)


def refuse_contradiction(whose: Path, config: Config, generator: Any, discriminator: Any = None) -> None:
    """Weights must have the sizes that are recorded with them: others would be used wrongly, or not at all.

    Args:
        whose: the file or folder.
        config: what is recorded.
        generator: its variables.
        discriminator: likewise; None: not there.

    Raises:
        UserError: every number that differs, with both values; or the variables are not those of such a network.
    """
    if config.generator.module:
        return  # Code of one's own, of which nothing is known.
    try:
        sizes, bins = generator_sizes(generator_to_torch(generator), config.generator)
        found = replace(config, generator=sizes)
        if discriminator is not None:
            sizes = discriminator_sizes(discriminator_to_torch(discriminator), config.discriminator)
            found = replace(found, discriminator=sizes)
    except UserError as error:
        raise UserError(f"{whose}: {error}") from error
    recorded, there = flatten(config), flatten(found)
    lines = [
        f"  {name}: {recorded[name]} as recorded, {there[name]} by its tensors"
        for name in recorded
        if recorded[name] != there[name]
    ]
    if bins != config.spectral.bins:
        lines.append(
            f"  spectral.n_fft: {config.spectral.n_fft} as recorded, {2 * (bins - 1)} by its tensors ({bins} bins)"
        )
    if lines:
        raise UserError("\n".join([f"{whose}: its weights contradict its own record; use another one:", *lines]))


def refuse_other_bins(path: Path, variables: Any, config: Config) -> None:
    """A file that tells no numbers does not say how its spectra are made; the number of bins must fit.

    Raises:
        UserError: it does not.
    """
    bins = generator_bins(variables)
    if bins != config.spectral.bins:
        raise UserError(
            f"{path}: the generator is made for {bins} frequency bins, and n_fft = {config.spectral.n_fft} gives "
            f"{config.spectral.bins}; the file does not tell its analysis, so make a run folder of it that does: "
            f"cmgan import --generator {path} --out DIR --spectral.n-fft {2 * (bins - 1)} "
            "--spectral.hop SAMPLES"
        )
