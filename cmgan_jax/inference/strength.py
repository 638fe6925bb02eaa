"""Strength of the enhancement: the result is a mixture of the input and the network's output."""

from typing import Literal

import numpy as np

from cmgan_jax.errors import UserError

Floats = np.ndarray
Strength = float | Literal["auto"]
"""Share of the enhanced signal from 0 to 1; `auto` chooses it from the signal."""

FULL_UP_TO = 12.0
"""Estimated signal-to-noise ratio in dB up to which `auto` uses the enhanced signal alone."""
LEAST_FROM = 24.0
"""Estimated signal-to-noise ratio in dB above which `auto` uses the smallest share, `LEAST`."""
LEAST = 0.5
"""Smallest share of the enhanced signal that `auto` uses."""


def refuse_strength(strength: Strength) -> None:
    """Check a strength.

    Raises:
        UserError: the strength is neither `auto` nor a number from 0 to 1.
    """
    if strength != "auto" and not (isinstance(strength, int | float) and 0 <= strength <= 1):
        raise UserError(f"--strength {strength}: it must be auto, or a number from 0 (nothing changes) to 1")


def estimated_ratio(noisy: Floats, enhanced: Floats) -> float:
    """Signal-to-noise ratio in dB as estimated by the network: energy of its output over energy that it removed.

    Args:
        noisy: float[S].
        enhanced: float[S].

    Returns:
        The ratio; -inf if nothing is kept, inf if nothing is removed.
    """
    kept, taken = (float(np.sum(np.square(x, dtype=np.float64))) for x in (enhanced, noisy - enhanced))
    if taken == 0 or kept == 0:
        return float("inf") if taken == 0 else float("-inf")
    return 10 * float(np.log10(kept / taken))


def share(strength: Strength, noisy: Floats, enhanced: Floats) -> float:
    """Share of the enhanced signal in the result, from 0 to 1.

    With `auto`, the share decreases as the estimated ratio increases. From a good recording, the network removes as
    much speech as noise, so a mixture has a smaller error than the input or the output alone.

    Args:
        strength: see `Strength`.
        noisy: float[S], the input.
        enhanced: float[S], the network's output.
    """
    if strength != "auto":
        return float(strength)
    return float(np.interp(estimated_ratio(noisy, enhanced), [FULL_UP_TO, LEAST_FROM], [1.0, LEAST]))


def mixed(strength: Strength, noisy: Floats, enhanced: Floats) -> Floats:
    """Mix input and output, float32[S]; at full strength, the result is exactly the output.

    For the arguments see `share`.
    """
    part = share(strength, noisy, enhanced)
    if part == 1:
        return enhanced
    return (noisy + np.float32(part) * (enhanced - noisy)).astype(np.float32)
