"""The published PyTorch program, beside which the benchmark measures ours: what is asked of it, and where it is.

It is part of a checkout (`experiments/pytorch_baseline/`) and not of an installed package.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from cmgan_jax.benchmarking.clock import Sample
from cmgan_jax.config import Config
from cmgan_jax.data.pipeline import Crops
from cmgan_jax.errors import UserError

CHECKOUT = Path(__file__).parents[2]
"""The folder that holds this package; a checkout's has `experiments/`, too."""
CLIENT = Path("experiments", "pytorch_baseline", "client.py")


class Mode(Protocol):
    """How PyTorch computes."""

    @property
    def side(self) -> str:
        """Its name in tables."""
        ...

    @property
    def precision(self) -> str:
        """Such as `fp32`."""
        ...


class BaselineProcess(Protocol):
    """PyTorch in one mode, in its own process.

    Attributes:
        about: versions, device and number of parameters.
        first: seconds of the first run of each program; compiling is in it.
        pesq_wait_ms: milliseconds that steps waited for scores, by program.
        gone: why its process has ended, in words; None while it is there.
    """

    about: dict[str, Any]
    first: dict[str, float]
    pesq_wait_ms: dict[str, list[float]]
    gone: str | None

    def samples(self, programs: list[str]) -> dict[str, Sample]:
        """A sample of each program."""
        ...

    def ask(self, what: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        ...


class Way(Protocol):
    """Recordings through a generator.

    Attributes:
        rss: peak of its process's resident set in the last run, in bytes.
    """

    rss: int

    def warm_up(self) -> None:
        """Enhance a little."""
        ...

    def run(self) -> float:
        """Enhance all of it; the seconds that it took."""
        ...


class Baseline(Protocol):
    """What the benchmark asks of the published program."""

    def modes(self, names: Iterable[str]) -> list[Mode]:
        """The modes of these names."""
        ...

    def require(self, *modules: str) -> Any:
        """Refuse a machine that has no PyTorch, or not these modules beside it."""
        ...

    def open(
        self, opened: ExitStack, config: Config, crops: Crops, modes: Sequence[Mode]
    ) -> tuple[Mapping[Mode, BaselineProcess], list[str]]:
        """A process for each mode, to be closed with `opened`; and why some could not begin."""
        ...

    def way(self, baseline: BaselineProcess, pieces: list[np.ndarray], batch: int) -> Way:
        """Windows through a baseline's generator, so many at once."""
        ...


class Nobody:
    """The baseline where nothing is compared."""

    def modes(self, names: Iterable[str]) -> list[Mode]:
        """None."""
        return []

    def require(self, *modules: str) -> None:
        """Nothing is needed."""

    def open(
        self, opened: ExitStack, config: Config, crops: Crops, modes: Sequence[Mode]
    ) -> tuple[Mapping[Mode, BaselineProcess], list[str]]:
        """None."""
        return {}, []

    def way(self, baseline: BaselineProcess, pieces: list[np.ndarray], batch: int) -> Way:
        """Never called: there is no baseline.

        Raises:
            LookupError: always.
        """
        raise LookupError("nothing is compared")


def find_baseline(checkout: Path = CHECKOUT) -> Baseline:
    """The published program of a checkout.

    Raises:
        UserError: this is an installed package, which does not hold it.
    """
    if not (checkout / CLIENT).is_file():
        raise UserError(
            "--against torch: the PyTorch program is part of a checkout of the source "
            "(experiments/pytorch_baseline), and not of the installed package; run "
            "`python -m experiments.benchmark` in a checkout"
        )
    # A command that pip installed does not look for modules in the checkout by itself.
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return cast(Baseline, import_module("experiments.pytorch_baseline.client").Published())
