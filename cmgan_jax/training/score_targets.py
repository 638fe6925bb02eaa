"""What the metric discriminator learns: a metric of each estimate as a target array that is always finite and full.

On the host, in numpy: nothing here is traced.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from jax.profiler import TraceAnnotation

from cmgan_jax.config import Policy, TargetConfig
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.pesq_score import Failure, Score, failed, named
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.metrics.registry import find_metric
from cmgan_jax.metrics.scoring_pool import ScorePool
from cmgan_jax.metrics.scoring_worker import LONGEST_OUTCOME
from cmgan_jax.shapes import check_shape
from cmgan_jax.system.cores import free_cores
from cmgan_jax.training.hosts import ALONE, Hosts

UNKNOWN = 0.5
"""Target where no score of the batch is valid."""
INJECT_FAILURES = "CMGAN_INJECT_PESQ_FAILURES"
"""Environment variable that takes the place of `TargetConfig.inject_failures`, for experiments."""
INJECT_BATCH_FAILURES = "CMGAN_INJECT_PESQ_BATCH_FAILURES"
"""Environment variable that takes the place of `TargetConfig.inject_batch_failures`, for experiments."""

# Bytes of a reason, as hosts tell it to each other.
_REASON = f"S{LONGEST_OUTCOME}"

# Keeps these draws apart from others that start from the same seed.
_INJECTION = 0x5045_5351


class Targets(NamedTuple):
    """Targets of one global batch.

    Attributes:
        value: float32[B], finite; in [0, 1] if clipped, else beyond where scores lie beyond the metric's range (of PESQ
            at most 1.04).
        weight: float32[B], the entry's weight in the discriminator's loss, 0 or 1.
        valid: bool[B], whether the estimate was scored.
        made: False if the policy drops this update.
    """

    value: np.ndarray
    weight: np.ndarray
    valid: np.ndarray
    made: bool


@dataclass(frozen=True)
class ScoreReport:
    """What scoring one global batch gave.

    Attributes:
        scores: float64[B] in the metric's unit, PESQ as raw MOS-LQO; NaN where it failed.
        true: float64[B], the scores as targets, whatever the policy made of them, not clipped; NaN where it failed.
        failures: how many failed, by reason (`Failure`, or a metric's own); reasons that did not occur are absent.
        waited: seconds that devices waited for scores.
        mean: mean score of those scored; NaN if none was.
    """

    scores: np.ndarray
    true: np.ndarray
    failures: dict[str, int]
    waited: float
    mean: float


def fill(scores: Sequence[Score], policy: Policy, clip: bool, scale: Scale = PESQ) -> Targets:
    """Make the target array of a global batch, whatever failed.

    A failed entry's value is the mean of the valid ones, or `UNKNOWN` if there are none.

    Args:
        scores: one an item, B of them.
        policy: what a failure does; see `TargetConfig.policy`.
        clip: see `Scale.target`.
        scale: of the metric.
    """
    valid = np.array([score.failure is None for score in scores], dtype=bool)
    value = scale.target(np.array([score.value for score in scores], dtype=np.float64), clip)
    mean = float(np.mean(value[valid])) if valid.any() else UNKNOWN
    value = np.full_like(value, mean) if policy == "batch_mean" else np.where(valid, value, mean)
    weight = valid if policy == "mask" else np.ones_like(valid)
    made = policy != "skip" or bool(valid.all())
    return Targets(value.astype(np.float32), weight.astype(np.float32), valid, made)


def injection_shares(config: TargetConfig, environment: Mapping[str, str] = os.environ) -> tuple[float, float]:
    """Shares of samples and of batches to be made to fail: the config's, or the environment's where it has any.

    Raises:
        UserError: an environment variable is not a number from 0 to 1.
    """
    return (
        _share(environment, INJECT_FAILURES, config.inject_failures),
        _share(environment, INJECT_BATCH_FAILURES, config.inject_batch_failures),
    )


def draw_injected(shares: tuple[float, float], batch: int, seed: int, step: int) -> np.ndarray:
    """Choose the items of a step that are made to fail; the same ones for the same arguments.

    Args:
        shares: of samples, and of batches in which one more is chosen, each 0 to 1.
        batch: B.
        seed: the run's.
        step: counted from 0.

    Returns:
        bool[B].
    """
    rng = np.random.default_rng([_INJECTION, seed % 2**64, step])
    per_sample, per_batch = shares
    chosen = rng.random(batch) < per_sample
    if rng.random() < per_batch:
        chosen[rng.integers(batch)] = True
    return chosen


@dataclass(frozen=True)
class PendingTargets:
    """A batch that is being scored, by each host its rows; `collect` waits for it."""

    scores: Sequence[Future[Score]]
    policy: Policy
    clip: bool
    hosts: Hosts = ALONE
    scale: Scale = PESQ

    def collect(self, idle: Future[float] | None = None) -> tuple[Targets, ScoreReport]:
        """Wait for the scores, of all hosts.

        Args:
            idle: when the devices will have nothing left to do, by `time.monotonic`: until then only the host waits,
                which counts for nothing. None: they have nothing to do now.

        Returns:
            The targets of the global batch, and what scoring it gave.

        Raises:
            UserError: no worker can be started any more.
            CancelledError: the scorer was closed.
        """
        began = time.monotonic()
        here = [future.result() for future in self.scores]
        ended = time.monotonic()
        if idle is not None:
            began = max(began, idle.result()) if idle.done() else ended
        # Not the exchange, which is a program of the devices and waits for those before it.
        scores, waited = _of_all(self.hosts, here, max(ended - began, 0.0))
        raw = np.array([score.value for score in scores], dtype=np.float64)
        valid = [score.value for score in scores if score.failure is None]
        failures = Counter(str(score.failure) for score in scores if score.failure is not None)
        true, mean = self.scale.target(raw, clip=False), float(np.mean(valid)) if valid else math.nan
        report = ScoreReport(raw, true, dict(failures), waited, mean)
        return fill(scores, self.policy, self.clip, self.scale), report


class TargetScorer:
    """Turns estimates into targets while the devices work; use it as a context manager, or `close` it.

    Args:
        config: metric, policy, workers, time limit, injected failures.
        batch: B, items of a step on this host.
        seed: root of the draws of injected failures.
        sample_rate: Hz, of what is scored.
        hosts: those that score a share each.

    Attributes:
        pool: the scoring processes, for other use between steps.
        scale: name, unit and range of the metric.

    Raises:
        UserError: the configuration cannot work, a metric that cannot be found, or workers that do not start.
    """

    def __init__(self, config: TargetConfig, batch: int, seed: int, sample_rate: int, hosts: Hosts = ALONE):
        self._config = config
        self._hosts = hosts
        self._seed = seed
        self._shares = injection_shares(config)
        self.scale = Scale.of(find_metric(config.metric))
        workers = config.workers or max(1, min(free_cores(), batch))
        self.pool = ScorePool(
            workers,
            time_limit=config.time_limit,
            sample_rate=sample_rate,
            annotate=_annotation,
            metric=config.metric,
        )

    def submit(self, step: int, clean: np.ndarray, estimate: np.ndarray) -> PendingTargets:
        """Start scoring this host's rows of a batch.

        Args:
            step: counted from 0 over the whole run, so that a resumed run draws the same failures.
            clean: float32[B, S] in [-1, 1], at its recorded level.
            estimate: float32[B, S]; its level does not matter.

        Raises:
            ValueError: shapes are not [B, S] and [B, S].
        """
        check_shape("clean", clean.shape, ("B", "S"))
        check_shape("estimate", estimate.shape, clean.shape)
        # Of the global batch, so that the number of hosts does not change which ones fail.
        drawn = draw_injected(self._shares, len(clean) * self._hosts.count, self._seed, step)
        injected = self._hosts.share(drawn)
        scores = [
            _done(failed(Failure.injected)) if fails else self.pool.score(*pair)
            for fails, *pair in zip(injected, clean, estimate, strict=True)
        ]
        return PendingTargets(scores, self._config.policy, self._config.clip, self._hosts, self.scale)

    def close(self) -> None:
        """End the scoring processes. Closing twice does no harm."""
        self.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _annotation(name: str) -> TraceAnnotation:
    """A span of a profile."""
    return TraceAnnotation(name)


def _of_all(hosts: Hosts, scores: Sequence[Score], waited: float) -> tuple[Sequence[Score], float]:
    """Scores of the global batch, in the order of hosts, and the longest wait."""
    if hosts.count == 1:
        return scores, waited
    told = hosts.exchange(_record(scores, waited))
    every = [
        Score(float(value), named(reason.decode("ascii")) if reason else None, 0.0)
        for value, reason in zip(told["score"].reshape(-1), told["reason"].reshape(-1), strict=True)
    ]
    return every, float(told["waited"].max())


def _record(scores: Sequence[Score], waited: float) -> np.ndarray:
    """What a host tells the others: a record of its rows' scores, why some failed, and the seconds that it waited."""
    rows = len(scores)
    record = np.zeros((), [("score", np.float64, rows), ("reason", _REASON, rows), ("waited", np.float64)])
    record["score"] = [score.value for score in scores]
    record["reason"] = [score.failure or "" for score in scores]
    record["waited"] = waited
    return record


def _done(score: Score) -> Future[Score]:
    future: Future[Score] = Future()
    future.set_result(score)
    return future


def _share(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0.0 <= share <= 1.0:
        raise UserError(f"environment variable {name} is {text!r}: it must be a number from 0 to 1, or unset")
    return share
