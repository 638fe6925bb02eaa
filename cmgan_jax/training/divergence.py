"""Losses and gradients that are not finite: no update is made from them, and a run of nothing else stops."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.errors import UserError

WATCHED = ("generator_loss", "generator_gradient_norm", "discriminator_loss", "discriminator_gradient_norm")
"""Numbers of a step that must be finite."""


class Diverged(UserError):
    """Too many steps in a row had a loss or gradient that is not finite."""

    status = 3


def is_finite(numbers: dict[str, float]) -> bool:
    """Whether a step's losses and gradients are finite."""
    return all(math.isfinite(numbers[name]) for name in WATCHED)


def set_aside(folder: Path, batch: Mapping[str, Any], **about: Any) -> Path:
    """Write a batch into a run folder, whole or not at all, for a look at it.

    Args:
        folder: the run folder.
        batch: `clean` and `noisy`, float32[B, S].
        about: `step`, and whatever tells where the batch is from; arrays of the file too.

    Returns:
        The file, as `numpy.load` reads it.
    """
    path = folder / f"not_finite_{about['step']}.npz"
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            arrays: dict[str, Any] = {**batch, **about}
            np.savez(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
