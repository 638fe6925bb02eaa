"""PESQ as the published loop has it: processes side by side, all of them joined before the step goes on."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


def score(pair: Pair, sample_rate: int = 16_000) -> float:
    """PESQ of an estimate beside its clean reference, -1 where it fails."""
    from pesq import PesqError, pesq  # Imported by the worker processes alone.

    clean, estimate = pair
    try:
        return pesq(sample_rate, clean, estimate, "wb")
    except (PesqError, ValueError):  # The latter where a silent signal gives NaN.
        return -1.0


class JoinedPesq:
    """Scores a batch in as many processes as cores; `close` ends them."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))

    def score(self, clean: np.ndarray, estimate: np.ndarray) -> list[float]:
        """Wait for the scores of float32 [B, S] and [B, S]."""
        return list(self._pool.map(score, zip(clean, estimate, strict=True)))

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)
