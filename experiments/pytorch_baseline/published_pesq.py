"""PESQ as in the published training loop: parallel processes that are all joined before the step continues."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


def score(pair: Pair, sample_rate: int = 16_000) -> float:
    """Return PESQ of an estimate against its clean reference; -1 if it fails."""
    from pesq import PesqError, pesq  # Imported only in worker processes.

    clean, estimate = pair
    try:
        return pesq(sample_rate, clean, estimate, "wb")
    except (PesqError, ValueError):  # The latter occurs if a silent signal gives NaN.
        return -1.0


class JoinedPesq:
    """Scores a batch in as many processes as there are cores; `close` ends them."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))

    def score(self, clean: np.ndarray, estimate: np.ndarray) -> list[float]:
        """Wait for the scores of float32 [B, S] and [B, S]."""
        return list(self._pool.map(score, zip(clean, estimate, strict=True)))

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)
