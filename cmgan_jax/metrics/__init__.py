"""Measures of an estimate against clean speech, and the processes that compute them.

`measures` describes them, with their ranges and units. Every one can be imported from here.
"""

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
    "Parts",
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
