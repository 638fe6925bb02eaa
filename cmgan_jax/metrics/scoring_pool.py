"""Scoring with PESQ and other metrics in a pool of threads, each of which drives its own worker process.

The pesq package holds the interpreter's lock and keeps global state, and some signals crash or might hang its process.
With worker processes, none of this affects the caller: a fault costs only the score in which it occurs, within a time
limit, and the worker is replaced. The threads here only wait on sockets, which does not hold the lock.
"""

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Literal, Self

import numpy as np

from cmgan_jax.errors import UserError
from cmgan_jax.metrics import scoring_worker
from cmgan_jax.metrics.pesq_score import Failure, Score, failed, gate, gate_finite, named
from cmgan_jax.metrics.protocol import LABELS, PESQ
from cmgan_jax.metrics.scoring_worker import METRIC, MODES, REPLY, REQUEST, read_reply
from cmgan_jax.shapes import check_shape
from cmgan_jax.system.modules import import_paths

Mode = Literal["wb", "nb"]

START_LIMIT = 60.0
"""Time limit for the start of a worker in seconds."""
PAUSES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses in seconds before the attempts to replace a worker. Afterwards its thread gives up, and the pool fails when
all threads have given up."""
MEMORY_LIMIT = 2 << 30
"""Limit of a worker's address space in bytes. Two seconds of audio take 120 MB, four minutes 380 MB."""

# Workers already use all cores, so threads inside a worker would only compete with each other.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ScorePool:
    """Scores pairs of signals in worker processes. A context manager; or call `close`.

    It never forks the calling process, which may hold a GPU, and no worker outlives that process.

    Args:
        workers: number of worker processes, each driven by a thread.
        time_limit: time limit of one score in seconds.
        sample_rate: 16,000 Hz, or 8,000 in narrow band.
        mode: `wb`, wide band (P.862.2), or `nb`, narrow band (P.862.1).
        memory_limit: limit of a worker's address space in bytes (Linux); 0: unlimited.
        annotate: marks the time of a score in a profile, as `jax.profiler.TraceAnnotation` does; it is a parameter
            because evaluation does not use JAX.
        metric: default metric: `pesq`, another built-in one, or `module:name`, which the workers import. With
            `module:name`, workers have no memory limit, since the module's libraries may need more.

    Raises:
        UserError: the configuration is invalid, or workers do not start.
    """

    def __init__(
        self,
        workers: int,
        *,
        time_limit: float,
        sample_rate: int = 16_000,
        mode: Mode = "wb",
        memory_limit: int = MEMORY_LIMIT,
        annotate: Callable[[str], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        metric: str = PESQ.name,
    ):
        self.metric = metric
        self._label = LABELS.get(metric, metric)
        if workers < 1:
            raise UserError(f"{self._label} cannot be scored by {workers} workers: at least 1 is needed")
        if not time_limit > 0:
            raise UserError(f"the time limit of a score of {self._label} is {time_limit} s: it must be positive")
        _check_mode(mode, sample_rate)
        self.sample_rate = sample_rate
        self.mode: Mode = mode
        self._time_limit = time_limit
        self._memory_limit = 0 if ":" in metric else memory_limit
        self._annotate = annotate
        self._lock = threading.Lock()  # held to queue, to drain the queue, and to change the list of workers
        self._closing = threading.Event()
        self._jobs: queue.SimpleQueue[tuple[Future[Score], bytes, float] | None] = queue.SimpleQueue()
        self._workers: list[_Worker | None] = [None] * workers
        self._serving = workers  # threads that have not given up
        self._broken: UserError | None = None
        started: list[Future[None]] = [Future() for _ in range(workers)]
        self._threads = [
            threading.Thread(target=self._serve, args=(slot, future), name=f"pesq-{slot}", daemon=True)
            for slot, future in enumerate(started)
        ]
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for thread in self._threads:
                thread.start()
            for future in started:
                future.result()
            undo.pop_all()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the current workers."""
        with self._lock:
            return tuple(worker.process.pid for worker in self._workers if worker is not None)

    def score(
        self,
        clean: np.ndarray,
        estimate: np.ndarray,
        mode: Mode | None = None,
        time_limit: float | None = None,
        metric: str | None = None,
    ) -> Future[Score]:
        """Score one pair. The signals are copied, so the caller may change them immediately.

        Args:
            clean: float32[S] in [-1, 1], at its recorded level; the level of the estimate does not matter.
            estimate: float32[S].
            mode: mode of PESQ; None: that of the pool.
            time_limit: time limit in seconds; None: that of the pool.
            metric: the pool's metric, or `pesq`; None: the pool's metric.

        Returns:
            A future that always completes: with a score; cancelled, if the pool is closed before; or with a
            `UserError`, if no worker can be started any more.

        Raises:
            ValueError: shapes are not [S] and [S], or the pool does not score the metric.
            UserError: PESQ is not defined for the mode at this sample rate.
            RuntimeError: the pool is closed.
        """
        mode = mode or self.mode
        _check_mode(mode, self.sample_rate)
        check_shape("clean", clean.shape, ("S",))
        check_shape("estimate", estimate.shape, clean.shape)
        clean, estimate = (np.ascontiguousarray(x, dtype="<f4") for x in (clean, estimate))
        metric = metric or self.metric
        if metric not in (self.metric, PESQ.name):
            raise ValueError(f"the metric is {metric}, but this pool scores {self.metric} and {PESQ.name}")
        future: Future[Score] = Future()
        if metric == PESQ.name:
            asked, failure = mode, gate(clean, estimate, self.sample_rate)
        else:
            asked, failure = METRIC, gate_finite(clean, estimate)
        header = REQUEST.pack(self.sample_rate, MODES.index(asked), clean.size)
        with self._lock:
            if self._closing.is_set():
                raise RuntimeError("the scoring pool is closed")
            if failure is not None:
                future.set_result(failed(failure))
            elif self._broken is not None:
                future.set_exception(self._broken)
            else:
                message = b"".join((header, clean.data, estimate.data))
                self._jobs.put((future, message, time_limit or self._time_limit))
        return future

    def score_batch(self, clean: np.ndarray, estimate: np.ndarray, mode: Mode | None = None) -> list[Future[Score]]:
        """Score pairs [B, S] and [B, S]; see `score`."""
        check_shape("clean", clean.shape, ("B", "S"))
        check_shape("estimate", estimate.shape, clean.shape)
        return [self.score(*pair, mode) for pair in zip(clean, estimate, strict=True)]

    def close(self) -> None:
        """End the workers immediately and cancel outstanding scores. Closing twice does no harm."""
        with self._lock:
            self._closing.set()
            for future, *_ in self._drain():
                future.cancel()
            for worker in self._workers:
                if worker is not None:
                    worker.process.kill()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, slot: int, started: Future[None]) -> None:
        """Main function of a thread: start a worker, send it requests, replace it when it fails."""
        # Linux ends a worker with the *thread* that started it, so workers are started here and not by a caller.
        try:
            worker = self._start(slot)
        except UserError as error:
            started.set_exception(error)
            return
        started.set_result(None)
        while worker is not None and (job := self._jobs.get()) is not None:
            future, message, time_limit = job
            if not future.set_running_or_notify_cancel():
                continue
            with self._annotate(self._label):  # In a profile, beside what the devices do meanwhile.
                score = worker.ask(message, time_limit)
            if self._closing.is_set() and score.failure is Failure.worker_crash:
                future.set_exception(CancelledError())
            else:
                future.set_result(score)
            if score.failure in (Failure.timeout, Failure.worker_crash):
                self._end(slot)
                worker = self._restart(slot)
        self._end(slot)

    def _start(self, slot: int) -> "_Worker | None":
        """Start a worker and wait until it is ready; None if the pool is being closed."""
        with self._lock:
            if self._closing.is_set():
                return None
            worker = self._workers[slot] = _Worker(self._memory_limit, self.metric)
        failure = worker.wait(START_LIMIT).failure
        if failure is None:
            return worker
        self._end(slot)
        if self._closing.is_set():
            return None
        if failure is Failure.timeout:
            reason = f"nothing came from it in {START_LIMIT:.0f} s; is the machine overloaded?"
        elif worker.process.returncode == scoring_worker.NO_PESQ:
            reason = f"the package `pesq` cannot be imported by {sys.executable}; `pip install pesq==0.0.4`"
        elif worker.process.returncode == scoring_worker.NO_METRIC:
            reason = (
                f"the metric {self.metric} cannot be imported in a process of its own; does it need what only your "
                "program sets up? Put it into a module that can be imported alone"
            )
        else:
            reason = (
                f"it ended with status {worker.process.returncode}; is there memory left (its limit is "
                f"{self._memory_limit >> 20} MiB, 0: none), and does `{sys.executable} -c 'import pesq'` work?"
            )
        raise UserError(f"a scoring process does not start: {reason}")

    def _restart(self, slot: int) -> "_Worker | None":
        """Replace a failed worker; None if all attempts fail, or the pool is being closed."""
        reason: UserError | None = None
        for pause in PAUSES:
            if self._closing.wait(pause):
                return None
            try:
                return self._start(slot)
            except UserError as error:
                reason = error
        with self._lock:
            self._serving -= 1
            if self._serving == 0:
                self._broken = reason
                for future, *_ in self._drain():
                    if future.set_running_or_notify_cancel():
                        future.set_exception(reason)
        return None

    def _end(self, slot: int) -> None:
        with self._lock:
            worker, self._workers[slot] = self._workers[slot], None
        if worker is not None:
            worker.end()

    def _drain(self) -> Iterator[tuple[Future[Score], bytes, float]]:
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    yield job


class _Worker:
    """A worker process and the socket to it.

    Raises:
        UserError: the process cannot be started.
    """

    def __init__(self, memory_limit: int, metric: str):
        ours, theirs = socket.socketpair()
        # The worker is started by its path, with neither its folder nor the working directory in the import path, so
        # that it starts the same from anywhere. It gets its own process group, so that the terminal's Ctrl-C and Ctrl-Z
        # reach the parent only.
        command = [sys.executable, "-P", scoring_worker.__file__, str(os.getpid()), str(memory_limit)]
        environment = os.environ | _ONE_THREAD
        if metric != PESQ.name:
            command += [metric, json.dumps(import_paths())]
            # A metric's module may import JAX, which must not take the accelerator from the training.
            environment["JAX_PLATFORMS"] = "cpu"
        with theirs:
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    process_group=0,
                )
            except OSError as error:
                ours.close()
                raise UserError(
                    f"a scoring process does not start: {error}; are there processes, memory and open "
                    "files left (`ulimit -a`)?"
                ) from error
        self._socket = ours

    def ask(self, message: bytes, limit: float) -> Score:
        """Send a request and wait for its answer; `limit` is the total time in seconds."""
        began = time.monotonic()
        self._socket.settimeout(limit)
        try:
            self._socket.sendall(message)
        except TimeoutError:
            return failed(Failure.timeout, time.monotonic() - began)
        except OSError:
            return failed(Failure.worker_crash, time.monotonic() - began)
        return self.wait(limit, began)

    def wait(self, limit: float, began: float | None = None) -> Score:
        """Wait for an answer until `limit` seconds after `began` (None: now)."""
        began = time.monotonic() if began is None else began
        answer = b""
        while len(answer) < REPLY.size:
            # The timeout must not be 0, which would mean "do not wait" and raise another exception.
            self._socket.settimeout(max(began + limit - time.monotonic(), 1e-4))
            try:
                part = self._socket.recv(REPLY.size - len(answer))
            except TimeoutError:
                return failed(Failure.timeout, time.monotonic() - began)
            except OSError:
                part = b""
            if not part:
                return failed(Failure.worker_crash, time.monotonic() - began)
            answer += part
        outcome, value = read_reply(answer)
        seconds = time.monotonic() - began
        return Score(value, None, seconds) if outcome == "ok" else failed(named(outcome), seconds)

    def end(self) -> None:
        """Kill the process, whatever state it is in, and leave no zombie."""
        self.process.kill()
        # A process in an uninterruptible kernel wait dies only when that ends, so do not wait forever.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5.0)
        self._socket.close()


def _check_mode(mode: str, sample_rate: int) -> None:
    if (sample_rate, mode) not in ((16_000, "wb"), (16_000, "nb"), (8_000, "nb")):
        raise UserError(
            f"PESQ is not defined for mode {mode!r} at {sample_rate} Hz: wb needs 16000 Hz, nb 16000 or 8000 Hz"
        )
