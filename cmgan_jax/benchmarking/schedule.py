"""Whether PESQ hides behind a device that is not there: its programs only take time, all that the host does is real."""

import itertools
import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from cmgan_jax.benchmarking.clock import Timing, in_turns, ratio
from cmgan_jax.benchmarking.material import make_crops
from cmgan_jax.benchmarking.workload import SwitchedScorer
from cmgan_jax.config import Config
from cmgan_jax.data.pipeline import Crops
from cmgan_jax.system.cores import free_cores
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.state import NetState, TrainState
from cmgan_jax.training.stepper import Stepper
from cmgan_jax.training.steps import Forward, Steps

SHARES = {"forward": 0.23, "backward": 0.75, "update": 0.02}
"""Of a step, what each program took on an H100 at the paper's size (results/h100.md)."""
LENGTHS = (1.0, 1.25, 1.75, 2.5)
"""Steps of a device, over the time in which a batch is scored; 1.75 is an H100 at batch 4: 43.6 ms and 25 ms."""
STEPS = 20
"""Steps of a sample."""
BATCHES = 8
"""Different ones, whose scores take different times."""


class Result:
    """What a program leaves behind, when its time is over."""

    def __init__(self, ended: Future[None], value: Any):
        self._ended, self._value = ended, np.asarray(value)
        self.shape = self._value.shape

    def block_until_ready(self) -> Self:
        """As of an array."""
        self._ended.result()
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._ended.result()
        return self._value


class Device:
    """A device that takes a program's seconds and computes nothing, one program after the other, beside the host."""

    def __init__(self, step: float):
        self._seconds = {name: share * step for name, share in SHARES.items()}
        self._queue = ThreadPoolExecutor(1)
        self.steps = Steps(self._forward, self._backward, self._update, self._norms)

    def run(self, name: str) -> Future[None]:
        """Queue a program."""
        return self._queue.submit(time.sleep, self._seconds[name])

    def _forward(self, _: Any, batch: Any) -> Any:
        ended = self.run("forward")
        left: Any = Forward  # Of arrays that are yet to come.
        return left(Result(ended, batch["noisy"]), None, None, None, None, Result(ended, 0.0), {})

    def _backward(self, generator: Any, average: Any, *_: Any) -> Any:
        return generator, average, None, {"generator_loss": Result(self.run("backward"), 0.0)}

    def _norms(self, *_: Any) -> Any:
        ended = [self.run("backward") for _ in range(2)]
        return {name: Result(ended[-1], 1.0) for name in ("others_norm", "adversarial_norm")}

    def _update(self, discriminator: Any, *_: Any) -> Any:
        self.last = self.run("update")
        return discriminator, {}


@dataclass(frozen=True)
class Scheduled:
    """One length of a step.

    Attributes:
        batch: crops of it, one a free core.
        length: seconds of the device's programs, over the seconds in which a batch is scored.
        ahead: whether a step begins with the next one's forward pass before it waits for scores, as training does.
        constant: seconds of a step whose PESQ is a constant.
        step: seconds of one with PESQ.
        wait: median seconds that the device had nothing to do.
    """

    batch: int
    length: float
    ahead: bool
    constant: Timing
    step: Timing
    wait: float

    @property
    def ratio(self) -> float:
        """How many times longer a step with PESQ takes."""
        return ratio(self.constant, self.step)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**vars(self), "constant": self.constant.median, "step": self.step.median, "ratio": self.ratio}


def measure_schedule(config: Config, repeats: int) -> list[Scheduled]:
    """Measure this machine: the scores, their processes and the stepper are those of training.

    Args:
        config: crops and targets; its batch is replaced by the number of free cores.
        repeats: samples of each figure, in turns.

    Raises:
        UserError: workers that do not start.
    """
    batch, rate = free_cores(), config.spectral.sample_rate
    crops = make_crops(BATCHES * batch, config.data.crop_seconds, rate)
    batches: list[Crops] = [
        {"clean": crops["clean"][i::BATCHES], "noisy": crops["noisy"][i::BATCHES]} for i in range(BATCHES)
    ]
    with SwitchedScorer(config.targets, batch, config.seed, rate) as scorer:
        # The first wakes the workers.
        scored = [
            scorer.submit(0, crops["clean"], crops["noisy"]).collect()[1].waited for crops in (batches[0], *batches)
        ]
        steppers = {length: _stepper(config, scorer, length * statistics.median(scored[1:])) for length in LENGTHS}
        waits: dict[Any, list[float]] = {}
        cases = {
            case: partial(_sample, *steppers[case[0]], scorer, batches, case, waits)
            for case in itertools.product(LENGTHS, (False, True), (True, False))
        }
        taken = in_turns(cases, repeats)
    return [
        Scheduled(
            batch,
            length,
            ahead,
            taken[length, ahead, True],
            taken[length, ahead, False],
            statistics.median(waits[length, ahead, False]),
        )
        for length, ahead in itertools.product(LENGTHS, (False, True))
    ]


def _stepper(config: Config, scorer: SwitchedScorer, step: float) -> tuple[Stepper, Device]:
    nothing = NetState(jnp.zeros((), jnp.int32), None, None, None)
    device = Device(step)
    put = Placement(jax.local_devices()[:1])
    return Stepper(config, put, scorer, TrainState(nothing, nothing, None), device.steps), device


def _sample(
    stepper: Stepper,
    device: Device,
    scorer: SwitchedScorer,
    batches: list[Crops],
    case: tuple[float, bool, bool],
    waits: dict[Any, list[float]],
) -> float:
    """Seconds of a step."""
    _, ahead, scorer.constant = case
    began = time.perf_counter()
    for step in range(STEPS):
        crops, following = (batches[i % BATCHES] for i in (step, step + 1))
        measured = stepper(crops, 0, 0, following=following if ahead and step + 1 < STEPS else None)
        waits.setdefault(case, []).append(measured.waited)
    device.last.result()
    return (time.perf_counter() - began) / STEPS


def schedule_table(rows: list[Scheduled]) -> Table:
    """For a terminal."""
    title = f"PESQ behind a device that only takes time, {rows[0].batch} crops on as many cores"
    table = Table(title=title, title_justify="left")
    for name in (
        "step over scores",
        "looks ahead",
        "PESQ a constant, ms",
        "with PESQ, ms",
        "ratio",
        "device waits, ms",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        times = (f"{1e3 * seconds:.1f}" for seconds in (row.constant.median, row.step.median))
        cells = f"{row.length:g}", "yes" if row.ahead else "no", *times, f"{row.ratio:.3f}", f"{1e3 * row.wait:.1f}"
        table.add_row(*cells)
    return table
