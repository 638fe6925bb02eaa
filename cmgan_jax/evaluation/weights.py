"""The generator out of whatever a person calls a checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict

from cmgan_jax.checksums import damage
from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.interop.naming import batches_tracked, generator_bins, generator_from_torch, refuse_not_finite
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.models.generator import stack_blocks
from cmgan_jax.recipes import from_dict, make_config
from cmgan_jax.runs import KEEP, expanded, find, steps_in

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
    """

    variables: Any
    config: Config
    origin: Path
    step: int


@dataclass(frozen=True)
class Networks:
    """Both networks of a checkpoint.

    Attributes:
        generator: its variables, as in `Weights`.
        discriminator: likewise, the vectors of spectral norm in `batch_stats`.
        config: the numbers they were trained with.
        origin: the folder that they are from.
        step: training steps behind them.
    """

    generator: dict[str, Any]
    discriminator: dict[str, Any]
    config: Config
    origin: Path
    step: int


def load(path: Path, step: int | None = None) -> Weights:
    """Read a generator.

    Args:
        path: a run folder (its best checkpoint), its `latest` or `best`, one checkpoint, also one that was copied
            out of its run, or a generator's state dict as PyTorch saved it.
        step: which checkpoint of a run folder; None: the best, or the newest of what is there.

    Raises:
        UserError: nothing of the kind is there, it cannot be read, or weights are not finite.
    """
    path = expanded(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name a run folder, a checkpoint in it, or a PyTorch file")
    if path.is_file():
        if step is not None:
            raise UserError(f"{path}: --step {step} picks a checkpoint of a run folder, and this is a file")
        return _of_torch(path)
    networks = load_checkpoint(path, step)
    return Weights(networks.generator, networks.config, networks.origin, networks.step)


def load_checkpoint(path: Path, step: int | None = None) -> Networks:
    """Read both networks of a checkpoint, without optimisers, into the memory of the host.

    Args:
        path: a run folder, its `latest` or `best`, or one checkpoint.
        step: which checkpoint of a run folder.

    Raises:
        UserError: as in `load`.
    """
    path = expanded(path).resolve()
    found = path if (path / "state").is_dir() and (path / "run").is_dir() else Path(str(find(path, step)))
    if step is not None and found == path:
        raise UserError(f"{path}: --step {step} picks a checkpoint of a run folder, and this is one checkpoint")
    refuse_damaged(found)
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
        config, state = from_dict(restored["run"]["config"]), restored["state"]
        generator, discriminator = state["generator"], state["discriminator"]
        check(config)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{found}: the checkpoint cannot be read ({error}). Use another one.") from error
    variables = {
        "params": state.get("average") or generator["params"],
        "batch_stats": generator.get("batch_stats", {}),
    }
    refuse_not_finite(str(found), flatten_dict(variables, sep="/"))
    return Networks(
        # Blocks lay apart in checkpoints of earlier revisions.
        generator={kind: stack_blocks(collection) for kind, collection in variables.items()},
        discriminator={key: discriminator[key] for key in ("params", "batch_stats")},
        config=config,
        origin=found,
        step=int(generator["step"]),
    )


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


def _of_torch(path: Path) -> Weights:
    content = read_torch_file(path)
    sizes, variables = generator_from_torch(content)
    config = replace(make_config(PUBLISHED), generator=sizes)
    refuse_other_bins(path, variables, config)
    check(config)
    return Weights(variables, config, path, batches_tracked(content))


def refuse_other_bins(path: Path, variables: Any, config: Config) -> None:
    """A PyTorch file does not say how its spectra are made; the number of bins must fit the published analysis.

    Raises:
        UserError: it does not.
    """
    bins = generator_bins(variables)
    if bins != config.spectral.bins:
        raise UserError(
            f"{path}: the generator is made for {bins} frequency bins, and n_fft = {config.spectral.n_fft} gives "
            f"{config.spectral.bins}; only weights for the published analysis can be used"
        )
