"""Handling of non-finite losses and gradients: they make no update, and too many in a row stop the run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.errors import UserError
from cmgan_jax.runs.folder import LATEST, SET_ASIDE, steps_in
from cmgan_jax.system.outputs import replacing

WATCHED = ("generator_loss", "generator_gradient_norm", "discriminator_loss", "discriminator_gradient_norm")
"""Values of a step that must be finite."""


class Diverged(UserError):
    """Too many consecutive steps had a non-finite loss or gradient."""

    status = 3


def is_finite(values: dict[str, float]) -> bool:
    """Whether those losses and gradients that a step has are finite."""
    return all(math.isfinite(values[name]) for name in WATCHED if name in values)


def set_aside(folder: Path, batch: Mapping[str, Any], **about: Any) -> Path:
    """Save a batch in a run folder for inspection; the file is complete or absent.

    Args:
        folder: the run folder.
        batch: `clean` and `noisy`, float32[B, S].
        about: `step`, and further values that identify the batch; they are saved as arrays, too.

    Returns:
        Path of the file, which `numpy.load` can read.
    """
    path = folder / SET_ASIDE.format(about["step"])
    with replacing(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {**batch, **about}
        np.savez(file, **arrays)
    return path


def account(folder: Path, batch: Mapping[str, Any], step: int, in_a_row: int, seed: int, names: Sequence[str]) -> str:
    """Save a batch, and describe where the run stopped and from which checkpoint it can continue.

    Args:
        folder: the run folder.
        batch: `clean` and `noisy`, float32[B, S], the rows of all hosts.
        step: number of updates attempted, including that of this batch.
        in_a_row: number of final steps that were not finite.
        seed: the run's seed.
        names: names of the batch's items.

    Returns:
        The message for the user. If the batch could not be written, it says so.
    """
    try:
        aside = str(set_aside(folder, batch, step=step, seed=seed, names=names))
    except OSError as error:
        aside = f"lost ({error.strerror or error})"
    good = [saved for saved in steps_in(folder / LATEST) if saved <= step - in_a_row]
    return (
        f"{folder}: stopped at step {step}: the loss or a gradient was not finite in the last {in_a_row} steps, and no "
        "update was made from them\n"
        f"last good checkpoint:  {folder / LATEST / str(good[-1]) if good else 'none yet'}\n"
        f"batch of step {step}:  {aside}  (files {', '.join(names)})\n"
        "going on with --resume comes to the same steps; a lower --optimiser.generator-rate or a --optimiser.clip-norm "
        "may not"
    )
