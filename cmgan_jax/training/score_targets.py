"""Targets of the metric discriminator: scores of the estimates, with failed ones filled in so that all are finite.

Everything here runs on the host in numpy; nothing is traced.
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
"""Target if no score of the batch is valid."""
INJECT_FAILURES = "CMGAN_INJECT_PESQ_FAILURES"
"""Environment variable that overrides `TargetConfig.inject_failures`, for experiments."""
INJECT_BATCH_FAILURES = "CMGAN_INJECT_PESQ_BATCH_FAILURES"
"""Environment variable that overrides `TargetConfig.inject_batch_failures`, for experiments."""

# Numpy type of a failure's reason, as exchanged between hosts.
_REASON = f"S{LONGEST_OUTCOME}"

# Makes these draws independent of others that use the same seed.
_INJECTION = 0x5045_5351


class Targets(NamedTuple):
    """Targets of one global batch.

    Attributes:
        value: float32[B], finite; in [0, 1] if clipped, otherwise beyond for scores outside the metric's range (for
            PESQ at most 1.04).
        weight: float32[B], weight of the item in the discriminator's loss, 0 or 1.
        valid: bool[B], whether the estimate has a score.
        made: whether to make the update; False if the policy drops it.
    """

    value: np.ndarray
    weight: np.ndarray
    valid: np.ndarray
    made: bool


@dataclass(frozen=True)
class ScoreReport:
    """Scores of one global batch.

    Attributes:
        scores: float64[B] in the metric's unit, PESQ as raw MOS-LQO; NaN for failed scores.
        true: float64[B], scores mapped to targets, unclipped and regardless of the policy; NaN for failed scores.
        failures: number of failures by reason (`Failure`, or a metric's own); reasons that did not occur are absent.
        waited: seconds that devices waited for scores.
        mean: mean of the valid scores; NaN if there is none.
    """

    scores: np.ndarray
    true: np.ndarray
    failures: dict[str, int]
    waited: float
    mean: float


def fill(scores: Sequence[Score], policy: Policy, clip: bool, scale: Scale = PESQ) -> Targets:
    """Make the targets of a global batch, including items whose scores failed.

    The value of a failed item is the mean of the valid ones, or `UNKNOWN` if there are none.

    Args:
        scores: B scores, one per item.
        policy: treatment of failed scores; see `TargetConfig.policy`.
        clip: see `Scale.target`.
        scale: scale of the metric.
    """
    valid = np.array([score.failure is None for score in scores], dtype=bool)
    value = scale.target(np.array([score.value for score in scores], dtype=np.float64), clip)
    mean = float(np.mean(value[valid])) if valid.any() else UNKNOWN
    value = np.full_like(value, mean) if policy == "batch_mean" else np.where(valid, value, mean)
    weight = valid if policy == "mask" else np.ones_like(valid)
    made = policy != "skip" or bool(valid.all())
    return Targets(value.astype(np.float32), weight.astype(np.float32), valid, made)


def injection_shares(config: TargetConfig, environment: Mapping[str, str] = os.environ) -> tuple[float, float]:
    """Shares of samples and of batches that are made to fail; the environment overrides the config.

    Raises:
        UserError: an environment variable is not a number from 0 to 1.
    """
    return (
        _share(environment, INJECT_FAILURES, config.inject_failures),
        _share(environment, INJECT_BATCH_FAILURES, config.inject_batch_failures),
    )


def draw_injected(shares: tuple[float, float], batch: int, seed: int, step: int) -> np.ndarray:
    """Choose the items of a step that are made to fail, deterministically from the arguments.

    Args:
        shares: share of samples, and share of batches in which one more item is chosen, each 0 to 1.
        batch: B.
        seed: the run's seed.
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
    """A batch that is being scored, each host scoring its own rows; `collect` waits for the scores."""

    scores: Sequence[Future[Score]]
    policy: Policy
    clip: bool
    hosts: Hosts = ALONE
    scale: Scale = PESQ

    def collect(self, idle: Future[float] | None = None) -> tuple[Targets, ScoreReport]:
        """Wait for the scores of all hosts.

        Args:
            idle: time, by `time.monotonic`, at which the devices run out of work; waiting before that is not counted,
                since it delays only the host. None: the devices are idle now.

        Returns:
            The targets and the scores of the global batch.

        Raises:
            UserError: no worker can be started any more.
            CancelledError: the scorer was closed.
        """
        began = time.monotonic()
        here = [future.result() for future in self.scores]
        ended = time.monotonic()
        if idle is not None:
            began = max(began, idle.result()) if idle.done() else ended
        # The exchange between hosts is not timed: it is a device program, and waits for earlier ones.
        scores, waited = _of_all(self.hosts, here, max(ended - began, 0.0))
        raw = np.array([score.value for score in scores], dtype=np.float64)
        valid = [score.value for score in scores if score.failure is None]
        failures = Counter(str(score.failure) for score in scores if score.failure is not None)
        true, mean = self.scale.target(raw, clip=False), float(np.mean(valid)) if valid else math.nan
        report = ScoreReport(raw, true, dict(failures), waited, mean)
        return fill(scores, self.policy, self.clip, self.scale), report


class TargetScorer:
    """Scores estimates while the devices work, and turns scores into targets. A context manager; or call `close`.

    Args:
        config: metric, policy, workers, time limit, injected failures.
        batch: B, items per step on this host.
        seed: seed for the draws of injected failures.
        sample_rate: sample rate of the audio in Hz.
        hosts: all hosts of the run, each of which scores its share.

    Attributes:
        pool: the scoring processes, which may be used for other scores between steps.
        scale: name, unit and range of the metric.

    Raises:
        UserError: the configuration is invalid, the metric cannot be found, or workers do not start.
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
            step: counted from 0 over the whole run, so that a resumed run injects the same failures.
            clean: float32[B, S] in [-1, 1], at its recorded level.
            estimate: float32[B, S]; its level does not matter.

        Raises:
            ValueError: shapes are not [B, S] and [B, S].
        """
        check_shape("clean", clean.shape, ("B", "S"))
        check_shape("estimate", estimate.shape, clean.shape)
        # Draw for the global batch, so that the choice does not depend on the number of hosts.
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
    """Mark a span in a profile."""
    return TraceAnnotation(name)


def _of_all(hosts: Hosts, scores: Sequence[Score], waited: float) -> tuple[Sequence[Score], float]:
    """Exchange scores between hosts; return those of the global batch in the order of hosts, and the longest wait."""
    if hosts.count == 1:
        return scores, waited
    told = hosts.exchange(_record(scores, waited))
    every = [
        Score(float(value), named(reason.decode("ascii")) if reason else None, 0.0)
        for value, reason in zip(told["score"].reshape(-1), told["reason"].reshape(-1), strict=True)
    ]
    return every, float(told["waited"].max())


def _record(scores: Sequence[Score], waited: float) -> np.ndarray:
    """Record that a host sends to the others: its rows' scores, reasons of failures, and the seconds it waited."""
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
