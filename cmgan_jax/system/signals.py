"""Signals that ask a program to end, and the functions that catch them."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ALWAYS = ("SIGINT", "SIGTERM")
_UNLESS_IGNORED = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Signals of a closing terminal, Ctrl-\\, a batch system's warning (SLURM's --signal=USR1), and the CPU time limit."""


class Stopped(BaseException):
    """A signal has asked this program to end; like KeyboardInterrupt, this is not an `Exception`.

    Attributes:
        signal: the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)


def heeded() -> list[signal.Signals]:
    """Signals that ask this process to end: SIGINT and SIGTERM, and others unless the process was told to ignore them.

    For example, `nohup` makes a process ignore SIGHUP. A process that SIGUSR1 must not end can be started the same way.
    """
    asked = [signal.Signals[name] for name in _ALWAYS]
    others = [signal.Signals[name] for name in _UNLESS_IGNORED if hasattr(signal, name)]
    return asked + [number for number in others if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def caught(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Call a function for each signal that asks to end, while the block runs.

    Outside the main thread, where Python cannot catch signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in heeded()}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, usual in before.items():
            # None means that the handler was not set from Python, so it cannot be restored.
            signal.signal(number, signal.SIG_DFL if usual is None else usual)


@contextmanager
def held() -> Iterator[None]:
    """Delay these signals to the end of the block, since an exception in a C library's callback would be lost."""
    came: list[tuple[int, FrameType | None]] = []
    usual = {number: signal.getsignal(number) for number in heeded()}
    with caught(lambda *what: came.append(what)):
        yield
    for number, frame in came[:1]:
        handler = usual[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        elif handler is not signal.SIG_IGN:
            signal.raise_signal(number)


class Stopper:
    """A signal handler that ends the program once; later signals, except Ctrl-C, do not disturb the cleanup."""

    def __init__(self) -> None:
        # Shells make background programs ignore Ctrl-C.
        self._deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        self._stopped = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; Python calls this in the main thread.

        Raises:
            KeyboardInterrupt: the signal is SIGINT.
            Stopped: it is another signal.
        """
        if number == signal.SIGINT:
            if not self._deaf:
                raise KeyboardInterrupt
        elif not self._stopped:
            self._stopped = True
            raise Stopped(number)
