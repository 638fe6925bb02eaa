"""Losses and gradients that are not finite: no update is made from them, and a run of nothing else stops."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.errors import UserError
from cmgan_jax.runs.folder import LATEST, SET_ASIDE, steps_in
from cmgan_jax.system.outputs import replacing

WATCHED = ("generator_loss", "generator_gradient_norm", "discriminator_loss", "discriminator_gradient_norm")
"""Numbers of a step that must be finite."""


class Diverged(UserError):
    """Too many steps in a row had a loss or gradient that is not finite."""

    status = 3


def is_finite(values: dict[str, float]) -> bool:
    """Whether a step's losses and gradients are finite, as far as it has them."""
    return all(math.isfinite(values[name]) for name in WATCHED if name in values)


def set_aside(folder: Path, batch: Mapping[str, Any], **about: Any) -> Path:
    """Write a batch into a run folder, whole or not at all, for a look at it.

    Args:
        folder: the run folder.
        batch: `clean` and `noisy`, float32[B, S].
        about: `step`, and whatever tells where the batch is from; arrays of the file too.

    Returns:
        The file, as `numpy.load` reads it.
    """
    path = folder / SET_ASIDE.format(about["step"])
    with replacing(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {**batch, **about}
        np.savez(file, **arrays)
    return path


def account(folder: Path, batch: Mapping[str, Any], step: int, in_a_row: int, seed: int, names: Sequence[str]) -> str:
    """Set a batch aside, and say where a run stopped and from where it goes on.

    Args:
        folder: the run folder.
        batch: `clean` and `noisy`, float32[B, S]: of all hosts.
        step: updates attempted, the one of this batch included.
        in_a_row: how many of them were not finite at the end.
        seed: the run's.
        names: of the batch's items.

    Returns:
        What a person is told; that the batch is lost, where it could not be written.
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
