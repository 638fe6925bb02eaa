"""Worker process that computes PESQ, so that a crash, a hang or a held interpreter lock does not affect its parent.

`scoring_pool` starts this file as a program, and also imports it for the protocol. As a program, it imports only numpy,
pesq and the standard library, not the package or JAX. Only a worker that also scores another metric imports the
package's metrics and, if needed, the module of the user's metric.

Protocol: standard input is a stream socket, used in both directions. The worker sends one `REPLY` when it is ready.
Then, for each `REQUEST` followed by two signals (reference, degraded; float32, little-endian), it sends one `REPLY`. It
exits when the socket is closed.
"""

import ctypes
import json
import math
import os
import re
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable

import numpy as np

REQUEST = struct.Struct("<IIQ")
"""Sample rate in Hz, index into `MODES`, number of samples of each signal."""
LONGEST_OUTCOME = 32
"""Maximum length of an outcome in characters."""
REPLY = struct.Struct(f"<{LONGEST_OUTCOME}sd")
"""Zero-padded ASCII outcome (`ok`, or why there is no score), and the score (0 if there is none)."""
METRIC = "metric"
"""Mode in which the worker scores its other metric instead of PESQ."""
MODES = ("nb", "wb", METRIC)
OUTCOMES = ("ok", "no_utterances", "too_short", "undefined", "out_of_memory", "pesq_error")
"""Outcomes of PESQ; other metrics may have reasons of their own."""
NO_PESQ = 3
"""Exit status if the pesq package cannot be imported."""
NO_METRIC = 4
"""Exit status if the other metric cannot be imported."""

Compute = Callable[[np.ndarray, np.ndarray, int], float]

_PR_SET_PDEATHSIG = 1
# Range of the maps from raw PESQ to MOS-LQO (ITU-T P.862.1, P.862.2). More than 50 utterances overrun an array in the
# pesq package; if that does not kill the process, the result may be arbitrary, and this range is the only check.
_MOS_RANGE = (0.999, 4.999)


def measure(sample_rate: int, mode: str, clean: np.ndarray, estimate: np.ndarray) -> tuple[str, float]:
    """Compute PESQ in this process.

    Args:
        sample_rate: 16,000 Hz, or 8,000 in narrow band.
        mode: one of `MODES`.
        clean: float32[S].
        estimate: float32[S].

    Returns:
        One of `OUTCOMES`, and the MOS-LQO (0 if there is none).
    """
    import pesq

    try:
        value = pesq.pesq(sample_rate, clean, estimate, mode)
    except pesq.NoUtterancesError:
        return "no_utterances", 0.0
    except pesq.BufferTooShortError:
        return "too_short", 0.0
    except (pesq.OutOfMemoryError, MemoryError):
        return "out_of_memory", 0.0
    except pesq.PesqError:
        return "pesq_error", 0.0
    except ValueError:  # the package fails to look up the message of the error code "NaN"
        return "undefined", 0.0
    low, high = _MOS_RANGE
    return ("ok", value) if low <= value <= high else ("undefined", 0.0)


def measure_with(compute: Compute, sample_rate: int, clean: np.ndarray, estimate: np.ndarray) -> tuple[str, float]:
    """Compute another metric in this process.

    Args:
        compute: method `score` of the metric.
        sample_rate: in Hz.
        clean: float32[S].
        estimate: float32[S].

    Returns:
        `ok` and the score; or the reason for its absence (the metric's own, `undefined` for a non-finite number,
        `metric_error` for any other error) and 0.
    """
    try:
        # Pass copies, since a metric may write into its arguments.
        value = float(compute(clean.copy(), estimate.copy(), sample_rate))
    except MemoryError:
        return "out_of_memory", 0.0
    except Exception as error:  # noqa: BLE001 - the metric may be the user's
        reason = re.sub(r"[^A-Za-z0-9_]+", "_", str(getattr(error, "reason", ""))).strip("_")
        return reason[:LONGEST_OUTCOME] or "metric_error", 0.0
    return ("ok", value) if math.isfinite(value) else ("undefined", 0.0)


def reply(outcome: str, value: float) -> bytes:
    """Encode an outcome and a score as a message."""
    return REPLY.pack(outcome.encode("ascii"), value)


def read_reply(message: bytes) -> tuple[str, float]:
    """Decode a message to an outcome and a score."""
    outcome, value = REPLY.unpack(message)
    return outcome.rstrip(b"\0").decode("ascii"), value


def prepare(parent: int, memory_limit: int) -> None:
    """Ignore signals that are meant for the parent, limit memory, and ensure that this process ends with its parent.

    Args:
        parent: process id of the parent.
        memory_limit: limit of the address space in bytes; 0: unlimited.
    """
    # A scheduler sends its warning to every process, but only the parent should act on it. A worker that obeyed would
    # lose a score, and the interrupted run would no longer equal the uninterrupted one.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # crashes are expected here: no dumps in the run's folder
    if sys.platform == "linux":
        if memory_limit:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            soft = memory_limit if hard == resource.RLIM_INFINITY else min(memory_limit, hard)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        # A closed socket ends only a worker that reads from it; this also ends one that hangs or is stopped.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def serve(stream: socket.socket, compute: Compute | None = None) -> None:
    """Answer requests until the stream ends.

    Args:
        stream: socket to the parent.
        compute: method `score` of the metric for the mode `metric`; None: only PESQ is requested.
    """
    with stream.makefile("rb") as requests:
        stream.sendall(reply("ok", 0.0))
        while len(header := requests.read(REQUEST.size)) == REQUEST.size:
            sample_rate, mode, samples = REQUEST.unpack(header)
            body = requests.read(8 * samples)
            if len(body) < 8 * samples:
                return
            clean, estimate = np.frombuffer(body, "<f4").reshape(2, samples)
            if compute is not None and MODES[mode] == METRIC:
                outcome, value = measure_with(compute, sample_rate, clean, estimate)
            else:
                outcome, value = measure(sample_rate, MODES[mode], clean, estimate)
            stream.sendall(reply(outcome, value))


def load(specification: str, paths: list[str]) -> Compute:
    """Import a metric and return its method `score`.

    Args:
        specification: see `cmgan_jax.metrics.registry.find_metric`.
        paths: module search path of the parent.
    """
    sys.path[:] = paths
    from cmgan_jax.metrics.registry import find_metric

    return find_metric(specification).score


def main() -> None:
    """Entry point: ``scoring_worker.py PARENT_PID MEMORY_LIMIT [METRIC PATHS]``; standard input is a stream socket."""
    prepare(int(sys.argv[1]), int(sys.argv[2]))
    try:
        import pesq  # noqa: F401
    except ImportError:
        sys.exit(NO_PESQ)
    compute = None
    if len(sys.argv) > 3:
        try:
            compute = load(sys.argv[3], json.loads(sys.argv[4]))
        except Exception:  # noqa: BLE001 - the module may be the user's; the parent tells of it
            sys.exit(NO_METRIC)
    try:
        serve(socket.socket(fileno=0), compute)
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the parent left


if __name__ == "__main__":
    main()
