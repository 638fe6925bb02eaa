"""A training step's programs, compiled and timed apart and together."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.benchmarking.ceilings import sampled
from cmgan_jax.benchmarking.clock import Sample
from cmgan_jax.benchmarking.collectives import Collective, collectives
from cmgan_jax.config import Config
from cmgan_jax.data.pipeline import Crops
from cmgan_jax.metrics.pesq_score import Score
from cmgan_jax.models.networks import make_networks
from cmgan_jax.precision import as_configured
from cmgan_jax.spectral import frame_count
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.score_targets import PendingTargets, TargetScorer
from cmgan_jax.training.state import initialise
from cmgan_jax.training.stepper import Stepper
from cmgan_jax.training.steps import Forward, compile_steps

PROGRAMS = {
    "forward": "generator forward",
    "generator": "generator forward+backward",
    "discriminator": "discriminator update",
    "constant": "whole step, PESQ a constant",
    "step": "whole step",
}
"""What is timed, by the name of its work, with its name in tables."""
STEP = ("training forward", "training backward", "discriminator")
"""The programs of a step, as they are compiled."""
CONSTANT = 2.5
"""PESQ of everything, where it is a constant."""


@dataclass(frozen=True)
class Compiled:
    """What compiling one program took and what XLA says of its memory.

    Attributes:
        seconds: tracing, lowering and compiling, nothing cached.
        temporaries: bytes that live inside the program alone.
        bytes: arguments, results and temporaries together.
        exchanges: what it sends to other devices.
    """

    seconds: float
    temporaries: int
    bytes: int
    exchanges: tuple[Collective, ...]


class SwitchedScorer(TargetScorer):
    """Scores, or gives a constant at once, as `constant` says."""

    constant = False

    def submit(self, step: int, clean: np.ndarray, estimate: np.ndarray) -> PendingTargets:
        """As `TargetScorer.submit`."""
        if not self.constant:
            return super().submit(step, clean, estimate)
        done: Future[Score] = Future()
        done.set_result(Score(CONSTANT, None, 0.0))
        return PendingTargets([done] * len(clean), self._config.policy, self._config.clip, scale=self.scale)


@dataclass
class Waits:
    """Milliseconds that devices waited for PESQ and the host for data, one entry a step."""

    pesq: list[float] = field(default_factory=list)
    data: list[float] = field(default_factory=list)


@as_configured
def generator_apply(variables: Any, noisy: Array, *, config: Config) -> Any:
    """The generator alone, in evaluation mode: compressed noisy spectrum in, enhanced out."""
    return make_networks(config).generator.apply(variables, noisy)


class Workload:
    """One config on some devices: what it compiles to, and samples of each program. Close it, or use `with`.

    Compiling is timed at construction and expects an empty cache of programs; the steps' first call finds them there.

    Args:
        config: sizes, recipe and batch.
        devices: of JAX; the batch divides over them.
        batches: crops of `config.batch`, without end.

    Attributes:
        compiled: by program.
        first_step: seconds of the first step after all programs were in the cache, as at a second start.
        waits: of `step` and `constant`.
    """

    def __init__(self, config: Config, devices: Sequence[Any], batches: Iterator[Crops]):
        self.config = config
        self.compiled: dict[str, Compiled] = {}
        self.waits = {"constant": Waits(), "step": Waits()}
        self._batches = batches
        self._put = put = Placement(devices)
        self._rate = put.replicate(jnp.float32(config.optimiser.generator_rate))
        self._state, self._batch = put.replicate(initialise(config)), put.split(next(batches))
        steps = compile_steps(config, put)
        frames = frame_count(config.crop_samples, config.spectral)
        noisy = put.split(_random_spectrum(config.batch, frames, config.spectral.bins))
        apply = put.map(partial(generator_apply, config=config), (None, 0), 0)
        # Copies of a state: whatever trains donates its own.
        inference = put.replicate(jax.tree.map(jnp.copy, self._state.validated)), noisy
        state = put.replicate(jax.tree.map(jnp.copy, self._state))
        self._apply = partial(self._compile("forward", apply, *inference), *inference)
        self._forward = self._compile("training forward", steps.forward, *self._generator_arguments())
        self._seen: Forward = self._forward(*self._generator_arguments())
        self._backward = self._compile("training backward", steps.backward, *self._backward_arguments(self._seen))
        self._update = self._compile("discriminator", steps.update, *self._update_arguments())
        self._scorer = SwitchedScorer(config.targets, config.batch, config.seed, config.spectral.sample_rate)
        self._stepper = Stepper(config, put, self._scorer, state)
        self._steps_done = 0
        # A residual that nobody uses would be half of the step's memory.
        self._seen = self._seen._replace(residual=None)
        self.first_step = self._step("step")(1)

    @property
    def step_bytes(self) -> int:
        """Most that a program of the step holds at once, by XLA's own count."""
        return max(self.compiled[name].bytes for name in STEP)

    @property
    def exchanges(self) -> list[Collective]:
        """What a step sends to other devices."""
        return [exchange for name in STEP for exchange in self.compiled[name].exchanges]

    @property
    def compile_seconds(self) -> float:
        """Seconds to compile the three programs of the step."""
        return sum(self.compiled[name].seconds for name in STEP)

    def samples(self) -> dict[str, Sample]:
        """A sample of each of `PROGRAMS`."""
        return {
            "forward": sampled(self._apply),
            "generator": sampled(self._train_generator),
            "discriminator": sampled(self._train_discriminator),
            "constant": self._step("constant"),
            "step": self._step("step"),
        }

    def close(self) -> None:
        """End the scoring processes."""
        self._scorer.close()

    def __enter__(self) -> "Workload":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _compile(self, name: str, program: Any, *arguments: Any) -> Callable[..., Any]:
        began = time.perf_counter()
        compiled = program.lower(*arguments).compile()
        seconds, memory = time.perf_counter() - began, compiled.memory_analysis()
        held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        exchanges = collectives(compiled.as_text())
        temporaries = memory.temp_size_in_bytes
        self.compiled[name] = Compiled(seconds, temporaries, held + temporaries, exchanges)
        return compiled

    def _generator_arguments(self) -> tuple[Any, ...]:
        return self._state.generator, self._batch

    def _backward_arguments(self, seen: Forward) -> tuple[Any, ...]:
        state = self._state
        return state.generator, state.average, state.discriminator, seen, self._rate

    def _update_arguments(self) -> tuple[Any, ...]:
        ones = np.ones(self.config.batch, np.float32)
        value, weight = self._put.split(0.5 * ones), self._put.split(ones)
        magnitudes = self._seen.clean_magnitude, self._seen.estimate_magnitude
        return self._state.discriminator, *magnitudes, value, weight, self._put.replicate(np.asarray(True)), self._rate

    def _train_generator(self) -> Any:
        seen = self._forward(*self._generator_arguments())
        generator, average, *_ = self._backward(*self._backward_arguments(seen))
        self._state = replace(self._state, generator=generator, average=average)
        return generator.params

    def _train_discriminator(self) -> Any:
        discriminator, metrics = self._update(*self._update_arguments())
        self._state = replace(self._state, discriminator=discriminator)
        return metrics

    def _step(self, kind: str) -> Sample:
        waits = self.waits[kind]

        def taken() -> Crops:
            clock = time.perf_counter()
            batch = next(self._batches)
            waits.data.append(1e3 * (time.perf_counter() - clock))
            return batch

        def sample(runs: int) -> float:
            self._scorer.constant = kind == "constant"
            began = time.perf_counter()
            batch = taken()
            for left in reversed(range(runs)):
                # What is begun is ended: the last step's scores have its backward pass's time, the others' a step's.
                following = taken() if left else None
                measured = self._stepper(batch, self._steps_done, 0, following=following)
                waits.pesq.append(1e3 * measured.waited)
                self._steps_done += 1
                batch = following or batch
            jax.block_until_ready(self._stepper.state)
            return (time.perf_counter() - began) / runs

        return sample


def _random_spectrum(batch: int, frames: int, bins: int) -> np.ndarray:
    """Complex numbers of unit power, complex64[B, T, F]."""
    parts = np.random.default_rng(0).standard_normal((2, batch, frames, bins)) / np.sqrt(2)
    return (parts[0] + 1j * parts[1]).astype(np.complex64)
