"""Metrics: functions that score a pair of signals, and the protocol by which a training learns any metric.

    from cmgan_jax import metrics

    metrics.stoi(clean, estimate, sample_rate)

The functions are those of `cmgan_jax.metrics.measures`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cmgan_jax import extras
from cmgan_jax.metrics.protocol import Metric, NoScore, Scale

if TYPE_CHECKING:
    from cmgan_jax.metrics.measures import (
        Composite,
        Parts,
        composite,
        estoi,
        log_likelihood_ratio,
        parts,
        pesq,
        segmental_snr,
        si_sdr,
        stoi,
        weighted_spectral_slope,
    )

__all__ = [
    "Composite",
    "Metric",
    "NoScore",
    "Parts",
    "Scale",
    "composite",
    "estoi",
    "log_likelihood_ratio",
    "parts",
    "pesq",
    "segmental_snr",
    "si_sdr",
    "stoi",
    "weighted_spectral_slope",
]


def __getattr__(name: str) -> Any:
    """Import a function when it is first used.

    Raises:
        AttributeError: there is no such name.
        MissingPackages: it needs packages that are not installed; the message says which extra has them.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module("cmgan_jax.metrics.measures"), name)
    except ModuleNotFoundError as error:
        if line := extras.lacking(error, "eval"):
            raise extras.MissingPackages(line) from error
        raise
