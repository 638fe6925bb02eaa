"""Strength of the enhancement: the result is a mixture of the input and the network's output."""

from typing import Literal

import numpy as np

from cmgan_jax.errors import UserError

Floats = np.ndarray
Strength = float | Literal["auto"]
"""Share of the enhanced signal from 0 to 1; `auto` chooses it from the signal."""

FULL_UP_TO = 13.0
"""Estimated signal-to-noise ratio in dB up to which `auto` uses the enhanced signal alone. It and the next two are
chosen by `experiments.strength_study`, so that the median gain of no band of input SNR is negative."""
LEAST_FROM = 16.0
"""Estimated signal-to-noise ratio in dB above which `auto` uses the smallest share, `LEAST`."""
LEAST = 0.0
"""Smallest share of the enhanced signal that `auto` uses."""
MEMORY = 0.8
"""Weight of all earlier pieces of a recording in its estimated ratio, for each piece that follows. The estimate changes
slowly, since a share that jumps from piece to piece would let the background noise come and go."""


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
    return _decibels(*_energies(noisy, enhanced))


def _energies(noisy: Floats, enhanced: Floats) -> tuple[float, float]:
    """Energy of what the network keeps, and of what it removes."""
    kept, taken = (float(np.sum(np.square(x, dtype=np.float64))) for x in (enhanced, noisy - enhanced))
    return kept, taken


def _decibels(kept: float, taken: float) -> float:
    if taken == 0 or kept == 0:
        return float("inf") if taken == 0 else float("-inf")
    return 10 * float(np.log10(kept / taken))


def automatic_share(ratio: float) -> float:
    """Share of the enhanced signal that `auto` uses, from 0 to 1.

    The share decreases as the estimated ratio increases. From a good recording, the network removes as much speech as
    noise, so a mixture has a smaller error than the output alone.

    Args:
        ratio: the estimated signal-to-noise ratio in dB.
    """
    return float(np.interp(ratio, [FULL_UP_TO, LEAST_FROM], [1.0, LEAST]))


def mixed(part: float, noisy: Floats, enhanced: Floats) -> Floats:
    """Mix input and output; at a share of 1, the result is exactly the output.

    Args:
        part: share of the output, from 0 to 1.
        noisy: float[S], the input.
        enhanced: float[S], the network's output.

    Returns:
        float32[S].
    """
    if part == 1:
        return enhanced
    return (noisy + np.float32(part) * (enhanced - noisy)).astype(np.float32)


class Mixer:
    """Mixes the pieces of a recording with what the network made of them, one after another.

    Args:
        strength: see `Strength`.
        channels: number of channels; the pieces of one moment come in the order of the channels.
    """

    def __init__(self, strength: Strength, channels: int = 1):
        self._strength: Strength = strength
        self._energies = np.zeros((channels, 2))
        self._count = 0

    def __call__(self, noisy: Floats, enhanced: Floats) -> Floats:
        """Mix the next piece, float32[S] each."""
        channel = self._count % len(self._energies)
        self._count += 1
        if self._strength != "auto":
            return mixed(self._strength, noisy, enhanced)
        self._energies[channel] = MEMORY * self._energies[channel] + _energies(noisy, enhanced)
        kept, taken = self._energies[channel]
        return mixed(automatic_share(_decibels(kept, taken)), noisy, enhanced)
