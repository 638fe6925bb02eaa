"""One training step from the host's side: three programs on the devices, scores in between."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.profiler import TraceAnnotation

from cmgan_jax.config import Config
from cmgan_jax.data.pipeline import Crops
from cmgan_jax.training.health import SMALL_LOSS, Pairs, adversarial_part, bias_and_error
from cmgan_jax.training.parallel import Placement, gather
from cmgan_jax.training.score_targets import PendingTargets, ScoreReport, Targets, TargetScorer
from cmgan_jax.training.state import TrainState, rate_factor
from cmgan_jax.training.steps import Forward, Metrics, Steps, compile_steps


@dataclass(frozen=True)
class StepResult:
    """What one step measured; device values are downloaded by `read`, when they are long computed.

    Attributes:
        metrics: scalars still on the devices.
        targets: what the discriminator was taught; None: nothing in this step (`targets.every`).
        report: scores, failures by reason, seconds that devices waited; None: nothing was scored.
    """

    metrics: Metrics
    targets: Targets | None
    report: ScoreReport | None

    @property
    def waited(self) -> float:
        """Seconds that devices waited for scores."""
        return self.report.waited if self.report else 0.0

    @property
    def failures(self) -> dict[str, int]:
        """How many scores failed, by reason."""
        return self.report.failures if self.report else {}

    def read(self) -> tuple[dict[str, float], Pairs]:
        """Download the values.

        Returns:
            Scalars by name, NaN where there is none: losses as in `steps`, `score` in the metric's unit, milliseconds
            that devices waited for scores; and the discriminator's predictions of the valid scores beside these. Of a
            step that taught the discriminator nothing, what concerns it is absent.
        """
        host = {name: np.asarray(value) for name, value in self.metrics.items()}
        if self.targets is None or self.report is None:
            return {name: float(value) for name, value in host.items()}, Pairs(np.zeros(0), np.zeros(0))
        valid = self.targets.valid
        # Against true scores, whatever the policy made of them.
        predicted = host.pop("predicted").reshape(-1)[valid].astype(np.float64)
        pairs = Pairs(predicted, self.report.true[valid])
        bias, error = bias_and_error(pairs)
        values = {name: float(value) for name, value in host.items()}
        if "adversarial_norm" in values:
            others, adversarial = values.pop("others_norm"), values.pop("adversarial_norm")
            values |= adversarial_part(others, adversarial, values["generator_gradient_norm"])
        loss = values["discriminator_loss"]
        return values | {
            "discriminator_loss_min": loss,
            "discriminator_loss_zero": float(loss == 0.0),
            "discriminator_loss_small": float(loss < SMALL_LOSS),
            "valid_share": 1 - sum(self.report.failures.values()) / len(valid),
            "target_spread": float(np.std(self.targets.value)),
            "score": self.report.mean,
            "calibration_bias": bias,
            "calibration_error": error,
            "score_wait_ms": 1e3 * self.report.waited,
        }, pairs


class _Begun(NamedTuple):
    """A batch whose forward pass has begun, with what will be its scores, if it is scored."""

    batch: Crops
    forward: Forward
    scoring: Future[PendingTargets] | None


class Stepper:
    """Owns the state while it trains.

    Args:
        config: the run's configuration.
        placement: devices.
        scorer: scores estimates on the host.
        state: both networks, on those devices. It is donated: read `state` back from here.
        steps: the programs; None: those of the config.
    """

    def __init__(
        self,
        config: Config,
        placement: Placement,
        scorer: TargetScorer,
        state: TrainState,
        steps: Steps | None = None,
    ):
        self.config = config
        self.state = state
        self._placement = placement
        self._scorer = scorer
        self._steps = steps or compile_steps(config, placement)
        self._rates: tuple[int, Any, Any] = (-1, None, None)
        # A thread that waits for devices. Where programs run in the thread that calls them, they hold the main one.
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="estimate")
        self._ahead: _Begun | None = None

    def __call__(
        self,
        batch: Crops,
        step: int,
        epoch: int,
        following: Crops | None = None,
    ) -> StepResult:
        """Run one step.

        Args:
            batch: `clean` and `noisy`, float32[batch, S] in [-1, 1]: this host's rows.
            step: updates attempted before this one.
            epoch: counted from 0; sets the learning rates.
            following: the next step's batch. Its forward pass, which the discriminator has no part in, then begins
                here, so that scoring has a whole step's time: the same values, sooner.

        Raises:
            ValueError: the step before was told of another batch.
        """
        forward, scoring = self._take_begun(batch, step)
        spectral_vectors, metrics = self._update_generator(forward, step, epoch)
        magnitudes = forward.clean_magnitude, forward.estimate_magnitude
        # Most of a step's memory is the residual: gone before there is another.
        del forward
        last = metrics["generator_loss"]
        if following is not None:
            self._ahead = self._begin(following, step + 1)
            last = self._ahead.forward.loss
        if scoring is None:
            # A step with scores waits for the same: its time is that of the devices.
            _when_computed(last)
            return StepResult(metrics, None, None)
        targets, report = self._collect(scoring, last)
        metrics |= self._update_discriminator(spectral_vectors, magnitudes, targets, epoch)
        return StepResult(metrics, targets, report)

    def _take_begun(self, batch: Crops, step: int) -> tuple[Forward, Future[PendingTargets] | None]:
        """The forward pass of a batch and what will be its scores: begun a step ago, or now."""
        begun, self._ahead = self._ahead or self._begin(batch, step), None
        if begun.batch is not batch:
            raise ValueError("this batch is not the one that the step before was told would follow")
        return begun.forward, begun.scoring

    def _update_generator(self, forward: Forward, step: int, epoch: int) -> tuple[Any, Metrics]:
        """Update the generator; the discriminator's spectral-norm vectors after the pass, and what was measured."""
        before, (rate, _) = self.state, self._rates_of(epoch)
        generator, average, spectral_vectors, metrics = self._steps.backward(
            before.generator, before.average, before.discriminator, forward, rate
        )
        self.state = replace(before, generator=generator, average=average)
        if self._norms_are_due(step):
            metrics |= self._steps.norms(before.discriminator, forward)
        return spectral_vectors, metrics | forward.metrics

    def _norms_are_due(self, step: int) -> bool:
        """Whether this step measures the adversarial term's share of the gradient."""
        health = self.config.health
        if not self.config.targets.every:
            return False
        return health.measure and health.adversarial_every > 0 and (step + 1) % health.adversarial_every == 0

    def _collect(self, scoring: Future[PendingTargets], last: jax.Array) -> tuple[Targets, ScoreReport]:
        """Wait for the scores; `last` is a result of the last program that the devices were given."""
        idle = self._aside.submit(_when_computed, last)
        pending = scoring.result()
        with TraceAnnotation("wait for scores"):
            return pending.collect(idle)

    def _update_discriminator(
        self, spectral_vectors: Any, magnitudes: tuple[Any, Any], targets: Targets, epoch: int
    ) -> Metrics:
        """Update the discriminator towards the targets; what was measured."""
        put, (_, rate) = self._placement, self._rates_of(epoch)
        discriminator, metrics = self._steps.update(
            replace(self.state.discriminator, batch_stats=spectral_vectors),
            *magnitudes,
            put.split(put.hosts.share(targets.value)),
            put.split(put.hosts.share(targets.weight)),
            put.replicate(np.asarray(targets.made)),
            rate,
        )
        self.state = replace(self.state, discriminator=discriminator)
        return metrics

    def _begin(self, batch: Crops, step: int) -> _Begun:
        """Enhance a batch; its estimates are scored as soon as they are there, where the step is to have scores."""
        forward = self._steps.forward(self.state.generator, self._placement.split(batch))
        every = self.config.targets.every
        if not every or step % every:
            return _Begun(batch, forward, None)
        return _Begun(batch, forward, self._aside.submit(self._score, step, batch["clean"], forward.estimate))

    def _score(self, step: int, clean: np.ndarray, waves: jax.Array) -> PendingTargets:
        """Wait for the estimates and have them scored."""
        with TraceAnnotation("wait for the estimate"):
            estimate = gather(waves)
        return self._scorer.submit(step, clean, estimate)

    def _rates_of(self, epoch: int) -> tuple[Any, Any]:
        if self._rates[0] != epoch:
            optimiser = self.config.optimiser
            factor = rate_factor(optimiser, epoch)
            rates = (optimiser.generator_rate * factor, optimiser.discriminator_rate * factor)
            self._rates = (epoch, *(self._placement.replicate(jnp.float32(rate)) for rate in rates))
        return self._rates[1:]


def _when_computed(result: jax.Array) -> float:
    """Wait for it; the time by `time.monotonic`."""
    with TraceAnnotation("wait for the devices"):
        jax.block_until_ready(result)
    return time.monotonic()


def first_device_copy(tree: Any, placement: Placement) -> Any:
    """A replicated tree on this host's first device alone, for programs that are not mapped."""
    return jax.device_put(tree, placement.local[0])
