"""What PESQ costs beside training: the main thread's pace while it is computed, and how scores share the cores."""

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
"""Scores of a batch of the paper."""
ROUND = 20_000
"""Turns of the loop between looks at the clock."""
TIME_LIMIT = 60.0
"""Seconds that a score may take: no limit that matters here."""


@dataclass(frozen=True)
class PesqCost:
    """Figures of one machine, medians.

    Attributes:
        cores: that this process may use.
        workers: scoring processes in the pace's measurement, one core left to the main thread where there are two.
        one_ms: one score of a crop by one worker, nothing beside it.
        all_ms: `SCORES` scores by a worker a core.
        ideal_ratio: `all_ms` over 16 / cores times `one_ms`, as if the cores shared them evenly.
        pace: turns a second of a Python loop in the main thread while scores are computed, over those without.
        cpu_share: processor time that the main thread got meanwhile, over the wall's: below 1 cores are short.
    """

    cores: int
    workers: int
    one_ms: float
    all_ms: float
    ideal_ratio: float
    pace: float
    cpu_share: float


def _turns(until: Callable[[], bool]) -> tuple[float, float]:
    """A plain loop until the condition holds: its turns a second, and its share of a processor."""
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
        seconds: length of a crop.
        sample_rate: of a crop, Hz.
        repeats: measurements of each figure, in turns.

    Raises:
        UserError: workers that do not start.
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
