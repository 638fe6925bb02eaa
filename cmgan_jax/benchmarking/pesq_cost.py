"""The cost of PESQ during training: how much it slows the main thread, and how well scores share the cores."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from cmgan_jax.benchmarking.material import make_crops
from cmgan_jax.metrics.pesq_score import Score
from cmgan_jax.metrics.scoring_pool import ScorePool
from cmgan_jax.system.cores import free_cores

SCORES = 16
"""Scores computed at once, as many as a batch of the paper has."""
ROUND = 20_000
"""Iterations of the loop between looks at the clock."""
TIME_LIMIT = 60.0
"""Time limit of a score in seconds, too large to matter here."""


@dataclass(frozen=True)
class PesqCost:
    """Medians of the figures measured on one machine.

    Attributes:
        cores: cores that this process may use.
        workers: scoring processes while `pace` is measured; one core is left to the main thread where there are two or
            more.
        one_ms: milliseconds of one score of a crop by one worker, with nothing else running.
        all_ms: milliseconds of `SCORES` scores with one worker per core.
        ideal_ratio: `all_ms` over 16 / cores times `one_ms`, as if the cores shared them evenly.
        pace: speed of a Python loop in the main thread while scores are computed, relative to that without scoring.
        cpu_share: processor time of the main thread meanwhile, over wall time; below 1, there are too few cores.
    """

    cores: int
    workers: int
    one_ms: float
    all_ms: float
    ideal_ratio: float
    pace: float
    cpu_share: float


def _turns(until: Callable[[], bool]) -> tuple[float, float]:
    """Run a plain loop until the condition holds; return its iterations per second and its share of a processor."""
    turns, value = 0, 0
    began, processor = time.perf_counter(), time.thread_time()
    while not until():
        for i in range(ROUND):
            value ^= i
        turns += ROUND
    wall = time.perf_counter() - began
    return turns / wall, (time.thread_time() - processor) / wall


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure_pesq(seconds: float, sample_rate: int, repeats: int) -> PesqCost:
    """Measure this machine.

    Args:
        seconds: length of a crop in seconds.
        sample_rate: sample rate of a crop in Hz.
        repeats: number of measurements of each figure, taken in turns.

    Raises:
        UserError: the workers do not start.
    """
    cores, crops = free_cores(), make_crops(SCORES, seconds, sample_rate)

    def scores(pool: ScorePool, count: int = SCORES) -> list[Future[Score]]:
        return pool.score_batch(crops["clean"][:count], crops["noisy"][:count])

    def wait(futures: list[Future[Score]]) -> None:
        for future in futures:
            future.result()

    one, every, paces, shares = [], [], [], []
    workers = max(1, cores - 1)
    with ScorePool(cores, time_limit=TIME_LIMIT, sample_rate=sample_rate) as whole:
        wait(scores(whole))
        for _ in range(repeats):
            one.append(_seconds(lambda: wait(scores(whole, 1))))
            every.append(_seconds(lambda: wait(scores(whole))))
    with ScorePool(workers, time_limit=TIME_LIMIT, sample_rate=sample_rate) as fewer:
        wait(scores(fewer))
        for _ in range(repeats):
            deadline = time.perf_counter() + statistics.median(every)
            alone, _ = _turns(lambda deadline=deadline: time.perf_counter() > deadline)
            futures = scores(fewer)
            beside, share = _turns(lambda futures=futures: all(future.done() for future in futures))
            paces.append(beside / alone)
            shares.append(share)
    single, batch = statistics.median(one), statistics.median(every)
    ideal = single * SCORES / min(cores, SCORES)
    return PesqCost(
        cores,
        workers,
        1e3 * single,
        1e3 * batch,
        batch / ideal,
        statistics.median(paces),
        statistics.median(shares),
    )
