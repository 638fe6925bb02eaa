"""The generator out of whatever a person calls a checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from cmgan_jax.config import Config, check
from cmgan_jax.errors import UserError
from cmgan_jax.interop.naming import batches_tracked, generator_bins, generator_from_torch
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.recipes import from_dict, make_config
from cmgan_jax.training import checkpoint
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.state import TrainState, initialise

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


def load(path: Path, step: int | None = None) -> Weights:
    """Read a generator.

    Args:
        path: a run folder (its best checkpoint), its `latest` or `best`, one checkpoint, also one that was copied
            out of its run, or a generator's state dict as PyTorch saved it.
        step: which checkpoint of a run folder; None: the best, or the newest of what is there.

    Raises:
        UserError: nothing of the kind is there, or it cannot be read.
    """
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name a run folder, a checkpoint in it, or a PyTorch file")
    if path.is_file():
        if step is not None:
            raise UserError(f"{path}: --step {step} picks a checkpoint of a run folder, and this is a file")
        return _of_torch(path)
    state, config, origin = load_state(path, step)
    return Weights(state.validated, config, origin, int(state.generator.step))


def load_state(path: Path, step: int | None = None) -> tuple[TrainState, Config, Path]:
    """Read a whole training state onto the first device.

    Args:
        path: a run folder, its `latest` or `best`, or one checkpoint.
        step: which checkpoint of a run folder.

    Returns:
        The state, the config, and the folder of the checkpoint.

    Raises:
        UserError: as in `load`.
    """
    placement = Placement(jax.local_devices()[:1])
    copied = (path / "state").is_dir() and (path / "run").is_dir()
    if copied and not (path.name.isdecimal() and path.resolve().parent.name in checkpoint.KEEP):
        state, config = _of_copy(path.resolve(), placement)
        return state, config, path
    found = checkpoint.find(path, step)
    try:
        config = checkpoint.config_of(found)
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise UserError(f"{found}: the checkpoint cannot be read ({error}). Use another one.") from error
    return checkpoint.restore(found, config, placement), config, Path(str(found))


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


def _of_copy(path: Path, placement: Placement) -> tuple[TrainState, Config]:
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            about = reader.restore(path, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]
            config = from_dict(about["config"])
            target = placement.describe(jax.eval_shape(lambda: initialise(config)))
            return reader.restore(path, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))[
                "state"
            ], config
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise UserError(f"{path}: the checkpoint cannot be read ({error}). Use another one.") from error
