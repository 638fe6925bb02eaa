"""Client of the published CMGAN in PyTorch, in a separate process, so that both frameworks take turns in one run."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from cmgan_jax.benchmarking.clock import Gone, Sample
from cmgan_jax.config import Config
from cmgan_jax.data.pipeline import Crops
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import to_dict
from cmgan_jax.system import temporaries

VARIABLE = "CMGAN_TORCH_PYTHON"
"""Environment variable that names an interpreter with PyTorch, if this one lacks it."""
MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "20000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""Settings of the C library's allocator that make PyTorch about twice as fast on a CPU."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mode:
    """One way in which PyTorch computes.

    Attributes:
        compiled: whether both networks use `torch.compile`.
        precision: `fp32`, `tf32` (float32 with that format in matrix products, on a GPU), `bf16` (autocast).
    """

    compiled: bool
    precision: str

    @property
    def side(self) -> str:
        """The mode's name in tables."""
        return "torch compiled" if self.compiled else "torch eager"


MODES = {
    f"{kind}-{precision}": Mode(kind == "compiled", precision)
    for precision in ("fp32", "tf32", "bf16")
    for kind in ("eager", "compiled")
}
"""Modes by their name on the command line."""


def find_torch() -> str | None:
    """Find an interpreter with PyTorch: the one that the environment names, or this one; None without either."""
    if named := os.environ.get(VARIABLE):
        # It is started in another folder, so a bare name is looked up on the path first.
        return os.path.abspath(named) if os.sep in named else named
    return sys.executable if importlib.util.find_spec("torch") else None


def require_torch(*modules: str) -> str:
    """Find an interpreter with PyTorch, as `find_torch`, or raise an error.

    Args:
        modules: modules that it must have besides torch and numpy.

    Raises:
        UserError: there is no such interpreter, or the one that the environment names lacks modules.
    """
    modules = ("torch", "numpy", *modules)
    found = find_torch()
    if found is None:
        raise UserError(
            f"PyTorch is not installed here: install it, or name an interpreter that has it in {VARIABLE} "
            "(python3 -m venv DIR; DIR/bin/pip install torch numpy pesq==0.0.4)"
        )
    try:
        done = subprocess.run(
            [found, "-c", f"import {', '.join(modules)}"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise UserError(f"{VARIABLE}: {found} cannot be run ({error.strerror}); name a Python interpreter") from error
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{found} cannot import {' '.join(modules)} ({why}); pip install {' '.join(modules)}")
    return found


def environment() -> dict[str, str]:
    """Build the environment of PyTorch's process: this one's, with `malloc` tuned, and this program on the path."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | MALLOC | {"PYTHONPATH": os.pathsep.join(path)}


@dataclass
class BaselineProcess:
    """One mode of PyTorch at one size, in its own process. Close it, or use `with`.

    Args:
        config: gives the sizes.
        crops: the training data.
        mode: the mode of PyTorch.

    Attributes:
        about: versions, device and number of parameters.
        first: seconds of the first run of each program, compilation included.
        pesq_wait_ms: milliseconds that steps waited for scores, by program.
        gone: why the process has ended, in words; None while it is running.
    """

    config: Config
    crops: Crops
    mode: Mode
    about: dict[str, Any] = field(default_factory=dict, init=False)
    first: dict[str, float] = field(default_factory=dict, init=False)
    pesq_wait_ms: dict[str, list[float]] = field(default_factory=dict, init=False)
    gone: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [require_torch(), "-m", "experiments.pytorch_baseline.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=environment(),
            start_new_session=True,  # It leads a group with its scoring processes, which end with it.
        )
        self._ending = threading.Thread(target=self._end_its_own, name="baseline", daemon=True)
        self._ending.start()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _end_its_own(self) -> None:
        """End the processes that it started: while they hold its pipes, its end would go unnoticed."""
        self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _open(self) -> None:
        with temporaries.folder() as folder:
            files = {}
            for name, wave in (("clean", self.crops["clean"]), ("noisy", self.crops["noisy"])):
                files[name] = str(Path(folder) / f"{name}.npy")
                np.save(files[name], wave.astype(np.float32))
            how = {"compiled": self.mode.compiled, "precision": self.mode.precision}
            self.about = self.ask("open", config=to_dict(self.config), **how, **files)

    def ask(self, what: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            UserError: PyTorch's process refused it.
            Gone: the process has ended.
        """
        sender, receiver = self._process.stdin, self._process.stdout
        assert sender is not None
        assert receiver is not None
        try:
            sender.write(json.dumps({"do": what, **request}) + "\n")
            sender.flush()
            line = receiver.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            self.gone = self.gone or (
                f"the PyTorch process ({self.mode.side}, {self.mode.precision}) ended with status {status} at "
                f"{what!r}; is there memory enough, and does `{VARIABLE}` name a PyTorch of 2.0 or later?"
            )
            raise Gone(self.gone)
        answer = json.loads(line)
        if "refused" in answer:
            raise UserError(answer["refused"])
        return answer

    def samples(self, programs: list[str]) -> dict[str, Sample]:
        """Return a sampling function for each program."""
        return {program: self._sample(program) for program in programs}

    def _sample(self, program: str) -> Sample:
        waits = self.pesq_wait_ms.setdefault(program, [])

        def sample(runs: int) -> float:
            answer = self.ask("sample", program=program, runs=runs)
            self.first.setdefault(program, answer["seconds"])
            waits.extend(answer["pesq_wait_ms"])
            return answer["seconds"]

        return sample

    def close(self) -> None:
        """End the process, and those that it started."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # Unread data are still buffered.
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()
        self._ending.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Theirs:
    """Enhancement of windows by a baseline's generator.

    Args:
        baseline: an open baseline process.
        pieces: float32[windows, S] each.
        batch: windows enhanced at once.

    Attributes:
        rss: peak resident set size of its process in the last run, in bytes.
    """

    def __init__(self, baseline: BaselineProcess, pieces: list[np.ndarray], batch: int):
        self.rss = 0
        self._baseline, self._pieces, self._batch = baseline, pieces, batch

    def warm_up(self) -> None:
        """Enhance the first windows of the longest piece."""
        self._enhance([max(self._pieces, key=np.size)[: self._batch]])

    def run(self) -> float:
        """Enhance all pieces and return the seconds, without those for files."""
        answer = self._enhance(self._pieces)
        self.rss = answer["rss"]
        return answer["seconds"]

    def _enhance(self, pieces: list[np.ndarray]) -> dict[str, Any]:
        with temporaries.folder() as folder:
            files = [str(Path(folder) / f"{i}.npy") for i in range(len(pieces))]
            for file, piece in zip(files, pieces, strict=True):
                np.save(file, piece.astype(np.float32))
            return self._baseline.ask("enhance", files=files, batch=self._batch)


class Published:
    """The published program for the benchmark: see `cmgan_jax.benchmarking.baseline.Baseline`."""

    def modes(self, names: Iterable[str]) -> list[Mode]:
        """Return the modes with these names.

        Raises:
            UserError: a name is unknown.
        """
        names = tuple(names)
        if unknown := [name for name in names if name not in MODES]:
            raise UserError(f"--modes {' '.join(unknown)}: there are {', '.join(MODES)}")
        return [MODES[name] for name in names]

    def require(self, *modules: str) -> None:
        """See `require_torch`."""
        require_torch(*modules)

    def open(
        self, opened: ExitStack, config: Config, crops: Crops, modes: Sequence[Mode]
    ) -> tuple[dict[Mode, BaselineProcess], list[str]]:
        """Start a process for each mode, to be closed with `opened`; also return why some could not start."""
        found, gone = {}, []
        for mode in modes:
            try:
                found[mode] = opened.enter_context(BaselineProcess(config, crops, mode))
            except Gone as error:
                gone.append(str(error))
        return found, gone

    def way(self, baseline: BaselineProcess, pieces: list[np.ndarray], batch: int) -> Theirs:
        """Return a way to run windows through a baseline's generator, `batch` at a time."""
        return Theirs(baseline, pieces, batch)
