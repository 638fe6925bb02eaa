"""Discovery among the hosts of one training, and the error message when a host has gone."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import jax

from cmgan_jax.cli._cli import explain
from cmgan_jax.errors import UserError, lacks_memory
from cmgan_jax.system.progress import told_while
from cmgan_jax.system.signals import Stopped
from cmgan_jax.training.hosts import ALONE, Hosts

HOST_GONE = 75
"""Exit status when another host has gone: 75 is sysexits' temporary failure, worth another try."""
JOIN_SECONDS = 120
"""Seconds that hosts wait for each other at the start."""
HEARTBEAT_SECONDS = 20
"""A host that is silent for this many seconds counts as gone."""
TELL_SECONDS = 10
"""Seconds after which a host reports that it is waiting."""
LEAVE_SECONDS = 15
"""Seconds that a leaving host waits for the others."""


@dataclass(frozen=True)
class Cluster:
    """How hosts find each other; JAX takes values that are None from the environment of SLURM, Open MPI or Kubernetes.

    Attributes:
        coordinator: HOST:PORT at which the others reach process 0.
        process: index of this process, from 0.
        processes: number of processes.
    """

    coordinator: str | None = None
    process: int | None = None
    processes: int | None = None


@contextmanager
def joined(cluster: Cluster | None) -> Iterator[Hosts]:
    """Join the other hosts for the duration of the block; with None, train alone.

    If a host dies, the others end within a minute, each with a message and the status `HOST_GONE`.

    Raises:
        UserError: the values are inconsistent, or there are none and no cluster to take them from.
    """
    if cluster is None:
        yield ALONE
        return
    _check(cluster)
    # JAX would handle SIGTERM, which is needed here: on it the run saves and ends.
    jax.config.update("jax_enable_preemption_service", False)
    last = _LastWords(
        f"--distributed: not all processes have met within {JOIN_SECONDS} s at {_place(cluster)}; {_MEET}"
    )
    _meet(cluster, last)
    last.words = (
        "another host has gone; its own output says why. Start all hosts again with --resume: the run goes on from "
        "its last checkpoint"
    )
    try:
        hosts = Hosts.present()
        # The first collective connects the hosts; later ones may wait for each other without limit.
        hosts.tell("")
        yield hosts
    except (Exception, Stopped, KeyboardInterrupt) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and not lacks_memory(error):
            # A collective with a host that has gone may fail at once. JAX notices a little later that a host has gone;
            # then it ends this process, and the prepared message is printed.
            time.sleep(2 * HEARTBEAT_SECONDS)
            raise
        # Only this host failed: the others do not reach the final barrier, and JAX aborts this process for that.
        _, last.status = explain(error) or ("", 1)
        last.words = "left the other hosts, which end too"
        raise


def _meet(cluster: Cluster, last: "_LastWords") -> None:
    """Wait for the other hosts, and report that.

    Raises:
        UserError: the address is unusable or missing.
    """
    failed: list[Exception] = []

    def initialise() -> None:
        try:
            jax.distributed.initialize(
                cluster.coordinator,
                cluster.processes,
                cluster.process,
                initialization_timeout=JOIN_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=LEAVE_SECONDS,
            )
        except (ValueError, RuntimeError) as error:
            failed.append(error)

    # In a thread, because it waits in C++, where the main thread would not handle signals.
    waiting = threading.Thread(target=initialise, name="distributed", daemon=True)
    what = f"waiting for the other processes of this run at {_place(cluster)}, for at most {JOIN_SECONDS} s"
    with last.alone() as say:
        try:
            with told_while(say, what, first=TELL_SECONDS):
                waiting.start()
                while waiting.is_alive():
                    waiting.join(0.1)
        except (Stopped, KeyboardInterrupt) as error:
            # At exit, JAX would wait for the others again.
            words, status = explain(error) or (str(error), 1)
            say(words)
            os._exit(status)
    if failed:
        reason = str(failed[0]).strip().splitlines()[0].rstrip(".")
        remedy = _WAYS if isinstance(failed[0], ValueError) else _PORT
        raise UserError(f"--distributed: {reason}; {remedy}") from failed[0]


def _place(cluster: Cluster) -> str:
    """Describe where the hosts meet."""
    count = f" ({cluster.processes} processes)" if cluster.processes else ""
    return f"{cluster.coordinator or 'the address of process 0'}{count}"


_MEET = (
    "see that all were started with the same --coordinator and --num-processes, each with its own --process-id, and "
    "that they can reach that address (a firewall?); for one host leave --distributed out"
)
_PORT = "see that process 0 runs on the host that --coordinator names, and that nothing else uses its port"
_WAYS = (
    "start it by SLURM's srun, by Open MPI's mpirun or in Kubernetes, or give --coordinator HOST:PORT, --process-id "
    "and --num-processes"
)


def _check(cluster: Cluster) -> None:
    host, _, port = (cluster.coordinator or "host:1").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator {cluster.coordinator}: it must be HOST:PORT")
    if cluster.processes is not None and cluster.processes < 1:
        raise UserError(f"--num-processes {cluster.processes}: it must be 1 or more")
    below = cluster.processes or 2**31
    if cluster.process is not None and not 0 <= cluster.process < below:
        raise UserError(f"--process-id {cluster.process}: it must be from 0 to --num-processes - 1")


class _LastWords:
    """Prints a message when JAX aborts the process from C++, where no Python exception is raised.

    Attributes:
        words: the message to print.
        status: the process's exit status.
    """

    def __init__(self, words: str):
        self.words = words
        self.status = HOST_GONE
        self._stderr = 2
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._say)
        ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)

    @contextmanager
    def alone(self) -> Iterator[Callable[[str], None]]:
        """Silence standard error, where JAX's C++ writes many lines; yield a function that can still write there."""
        sys.stderr.flush()
        self._stderr = os.dup(2)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)
        try:
            yield self._write
        finally:
            sys.stderr.flush()
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
            self._stderr = 2

    def _write(self, words: str) -> None:
        with suppress(OSError):
            os.write(self._stderr, f"{words}\n".encode(errors="backslashreplace"))

    def _say(self, number: int) -> None:
        self._write(self.words)
        os._exit(self.status)
