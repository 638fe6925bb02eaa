"""How the hosts of one training find each other, and what a host says when another has gone."""

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
"""How long hosts wait for each other at the start."""
HEARTBEAT_SECONDS = 20
"""A host that has been silent for so long has gone."""
TELL_SECONDS = 10
"""After how long a host says that it waits."""
LEAVE_SECONDS = 15
"""How long a host waits for the others when it leaves."""


@dataclass(frozen=True)
class Cluster:
    """How hosts find each other; what is None is found by JAX in the environment of SLURM, Open MPI or Kubernetes.

    Attributes:
        coordinator: HOST:PORT of process 0, as the others reach it.
        process: number of this process, from 0.
        processes: how many there are.
    """

    coordinator: str | None = None
    process: int | None = None
    processes: int | None = None


@contextmanager
def joined(cluster: Cluster | None) -> Iterator[Hosts]:
    """Train together with other hosts while the block runs; None: alone.

    A host that dies takes the others with it within a minute: each says so and ends with the status `HOST_GONE`.

    Raises:
        UserError: numbers that do not fit together, or none and no cluster to take them from.
    """
    if cluster is None:
        yield ALONE
        return
    _check(cluster)
    # It would take SIGTERM, which is ours: the run saves and leaves.
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
        # The first exchange connects the hosts; later ones may wait for each other as long as they like.
        hosts.tell("")
        yield hosts
    except (Exception, Stopped, KeyboardInterrupt) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and not lacks_memory(error):
            # An exchange with a host that has gone may fail at once. Whether one has, JAX knows a little later; then
            # it ends this process, and the last words are said.
            time.sleep(2 * HEARTBEAT_SECONDS)
            raise
        # It ended this host alone: the others do not come to the farewell, and JAX aborts this one for that.
        _, last.status = explain(error) or ("", 1)
        last.words = "left the other hosts, which end too"
        raise


def _meet(cluster: Cluster, last: "_LastWords") -> None:
    """Wait for the other hosts, and say so.

    Raises:
        UserError: the address cannot be used, or there is none.
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

    # In a thread: it waits in C++, where the main thread would hear of no signal.
    waiting = threading.Thread(target=initialise, name="distributed", daemon=True)
    what = f"waiting for the other processes of this run at {_place(cluster)}, for at most {JOIN_SECONDS} s"
    with last.alone() as say:
        try:
            with told_while(say, what, first=TELL_SECONDS):
                waiting.start()
                while waiting.is_alive():
                    waiting.join(0.1)
        except (Stopped, KeyboardInterrupt) as error:
            # JAX would wait for the others again before this process may end.
            words, status = explain(error) or (str(error), 1)
            say(words)
            os._exit(status)
    if failed:
        reason = str(failed[0]).strip().splitlines()[0].rstrip(".")
        remedy = _WAYS if isinstance(failed[0], ValueError) else _PORT
        raise UserError(f"--distributed: {reason}; {remedy}") from failed[0]


def _place(cluster: Cluster) -> str:
    """Where hosts meet, in words."""
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
    """Says something when JAX aborts the process, which it does from C++: no exception passes through Python.

    Attributes:
        words: what will be said.
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
        """Keep what JAX's C++ writes off standard error, pages for one sentence; gives what still writes there."""
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
