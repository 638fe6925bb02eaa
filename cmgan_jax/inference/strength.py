"""How much of the enhancement is heard: a mixture of what came in and what the network made of it."""

from typing import Literal

import numpy as np

from cmgan_jax.errors import UserError

Floats = np.ndarray
Strength = float | Literal["auto"]
"""A share of the enhanced signal from 0 to 1; `auto`: a choice by the signal itself."""

FULL_UP_TO = 12.0
"""Estimated signal-to-noise ratio in dB up to which `auto` uses the enhanced signal alone."""
LEAST_FROM = 24.0
"""Such a ratio from which on `auto` uses the least of it."""
LEAST = 0.5
"""That least share."""


def refuse_strength(strength: Strength) -> None:
    """Check a strength.

    Raises:
        UserError: it is neither `auto` nor a number from 0 to 1.
    """
    if strength != "auto" and not (isinstance(strength, int | float) and 0 <= strength <= 1):
        raise UserError(f"--strength {strength}: it must be auto, or a number from 0 (nothing changes) to 1")


def estimated_ratio(noisy: Floats, enhanced: Floats) -> float:
    """The signal-to-noise ratio in dB that the network finds: what it kept against what it took away.

    Args:
        noisy: float[S].
        enhanced: float[S].

    Returns:
        -inf where nothing is kept, inf where nothing is taken away.
    """
    kept, taken = (float(np.sum(np.square(x, dtype=np.float64))) for x in (enhanced, noisy - enhanced))
    if taken == 0 or kept == 0:
        return float("inf") if taken == 0 else float("-inf")
    return 10 * float(np.log10(kept / taken))


def share(strength: Strength, noisy: Floats, enhanced: Floats) -> float:
    """The share of the enhanced signal, from 0 to 1.

    With `auto` it falls with the estimated ratio: what a network takes away from a good recording is as much speech as
    noise, so the error of a mixture is less than that of either.

    Args:
        strength: see `Strength`.
        noisy: float[S], what came in.
        enhanced: float[S], what the network made of it.
    """
    if strength != "auto":
        return float(strength)
    return float(np.interp(estimated_ratio(noisy, enhanced), [FULL_UP_TO, LEAST_FROM], [1.0, LEAST]))


def mixed(strength: Strength, noisy: Floats, enhanced: Floats) -> Floats:
    """The mixture, float32[S]; exactly the enhanced signal at full strength.

    For the arguments see `share`.
    """
    part = share(strength, noisy, enhanced)
    if part == 1:
        return enhanced
    return (noisy + np.float32(part) * (enhanced - noisy)).astype(np.float32)
