"""Measures of one enhanced file against its clean reference, in numpy: no jax here.

Every measure takes `clean` and `estimate` with samples on the last axis and returns plain numbers.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def si_sdr(clean: ArrayLike, estimate: ArrayLike) -> Floats:
    """Scale-invariant signal-to-distortion ratio.

    The estimate is split into its projection on the clean signal and the rest. Means are kept, as in the
    definition; the variant named SI-SNR removes them.

    Args:
        clean: [..., S], any scale.
        estimate: [..., S], any scale.

    Returns:
        [...] in dB, a scalar for one pair; unbounded: inf where the estimate is the clean signal up to scale,
        -inf where it has nothing of it, nan where either signal is silent.

    Raises:
        ValueError: the shapes differ.

    References:
        Le Roux et al., "SDR: half-baked or well done?", ICASSP 2019, equations 3 to 5.
    """
    s, e = _pair(clean, estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.sum(s * e, axis=-1, keepdims=True) / np.sum(s * s, axis=-1, keepdims=True)
        target = gain * s
        ratio = np.sum(target**2, axis=-1) / np.sum((e - target) ** 2, axis=-1)
        return 10.0 * np.log10(ratio)


def _pair(clean: ArrayLike, estimate: ArrayLike) -> tuple[Floats, Floats]:
    c, e = np.asarray(clean, np.float64), np.asarray(estimate, np.float64)
    if c.shape != e.shape:
        raise ValueError(f"clean has shape {list(c.shape)} but estimate {list(e.shape)}: they must be equal")
    return c, e
