"""The interface to the published PyTorch program that the benchmark compares with, and the search for it.

The program is part of a checkout (`experiments/pytorch_baseline/`) and not of an installed package.
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
"""The folder that holds this package; in a checkout it also holds `experiments/`."""
CLIENT = Path("experiments", "pytorch_baseline", "client.py")


class Mode(Protocol):
    """One way in which PyTorch computes."""

    @property
    def side(self) -> str:
        """The mode's name in tables."""
        ...

    @property
    def precision(self) -> str:
        """The numeric precision, e.g. `fp32`."""
        ...


class BaselineProcess(Protocol):
    """PyTorch running in one mode, in its own process.

    Attributes:
        about: versions, device and number of parameters.
        first: seconds of the first run of each program, compilation included.
        pesq_wait_ms: milliseconds that steps waited for scores, by program.
        gone: why the process has ended, in words; None while it is running.
    """

    about: dict[str, Any]
    first: dict[str, float]
    pesq_wait_ms: dict[str, list[float]]
    gone: str | None

    def samples(self, programs: list[str]) -> dict[str, Sample]:
        """Return a sampling function for each program."""
        ...

    def ask(self, what: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        ...


class Way(Protocol):
    """A way to run recordings through a generator.

    Attributes:
        rss: peak resident set size of its process in the last run, in bytes.
    """

    rss: int

    def warm_up(self) -> None:
        """Enhance a little, so that everything is compiled before timing."""
        ...

    def run(self) -> float:
        """Enhance everything and return the seconds it took."""
        ...


class Baseline(Protocol):
    """What the benchmark needs from the published program."""

    def modes(self, names: Iterable[str]) -> list[Mode]:
        """Return the modes with these names."""
        ...

    def require(self, *modules: str) -> Any:
        """Raise an error if the machine lacks PyTorch or one of these additional modules."""
        ...

    def open(
        self, opened: ExitStack, config: Config, crops: Crops, modes: Sequence[Mode]
    ) -> tuple[Mapping[Mode, BaselineProcess], list[str]]:
        """Start a process for each mode, to be closed with `opened`; also return why some could not start."""
        ...

    def way(self, baseline: BaselineProcess, pieces: list[np.ndarray], batch: int) -> Way:
        """Return a way to run windows through a baseline's generator, `batch` at a time."""
        ...


class Nobody:
    """The null baseline, for benchmarks that compare with nothing."""

    def modes(self, names: Iterable[str]) -> list[Mode]:
        """Return no modes."""
        return []

    def require(self, *modules: str) -> None:
        """Do nothing: no module is needed."""

    def open(
        self, opened: ExitStack, config: Config, crops: Crops, modes: Sequence[Mode]
    ) -> tuple[Mapping[Mode, BaselineProcess], list[str]]:
        """Start no process."""
        return {}, []

    def way(self, baseline: BaselineProcess, pieces: list[np.ndarray], batch: int) -> Way:
        """Never called, as there is no baseline.

        Raises:
            LookupError: always.
        """
        raise LookupError("nothing is compared")


def find_baseline(checkout: Path = CHECKOUT) -> Baseline:
    """Load the published program from a checkout.

    Raises:
        UserError: this is an installed package, which does not include it.
    """
    if not (checkout / CLIENT).is_file():
        raise UserError(
            "--against torch: the PyTorch program is part of a checkout of the source "
            "(experiments/pytorch_baseline), and not of the installed package; run "
            "`python -m experiments.benchmark` in a checkout"
        )
    # A command installed by pip does not search the checkout for modules by itself.
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return cast(Baseline, import_module("experiments.pytorch_baseline.client").Published())
