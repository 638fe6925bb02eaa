"""The order of a step on the host."""

import threading
from typing import Any

import jax
import numpy as np

from cmgan_jax.benchmarking.material import make_crops
from cmgan_jax.benchmarking.workload import SwitchedScorer
from cmgan_jax.recipes import make_config, override
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.pesq_targets import PendingTargets
from cmgan_jax.training.state import initialise
from cmgan_jax.training.stepper import Stepper

# Without conformers: quick to compile.
SMALL = override(
    make_config("recommended", "tiny"),
    {"generator.blocks": 0, "generator.dense_depth": 1, "data.crop_seconds": 0.25, "targets.workers": 1},
)


class Watched(SwitchedScorer):
    """Constant scores, and whether they were asked for."""

    constant = True

    def submit(self, step: int, clean: np.ndarray, estimate: np.ndarray) -> PendingTargets:
        asked.set()
        return super().submit(step, clean, estimate)


asked = threading.Event()


def test_scoring_begins_while_a_backward_pass_holds_the_caller() -> None:
    """As on a CPU, where a program runs in the thread that calls it: it ends here when scores were asked for."""
    put = Placement(jax.devices()[:1])
    with Watched(SMALL.targets, SMALL.batch, 0, 16_000) as scorer:
        stepper = Stepper(SMALL, put, scorer, put.replicate(initialise(SMALL)))
        backward, seen = stepper._steps.backward, []

        def held(*arguments: Any) -> Any:
            seen.append(asked.wait(timeout=30))
            return backward(*arguments)

        stepper._steps = stepper._steps._replace(backward=held)
        crops = make_crops(SMALL.batch, SMALL.data.crop_seconds, 16_000)
        measured = stepper({"clean": crops["clean"], "noisy": crops["noisy"]}, 0, 0)
    assert seen == [True]
    assert measured.report.mean == 2.5
