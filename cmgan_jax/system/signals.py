"""Signals that ask a program to end, and the one way in which they are caught."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ALWAYS = ("SIGINT", "SIGTERM")
_UNLESS_IGNORED = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""A terminal that closes, Ctrl-\\, warnings of batch systems (as SLURM's --signal=USR1), the limit of CPU time."""


class Stopped(BaseException):
    """A signal has asked this program to end; not an `Exception`, as Ctrl-C is none.

    Attributes:
        signal: which one.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)


def heeded() -> list[signal.Signals]:
    """Signals that ask this process to end: SIGINT and SIGTERM, and those others that it was not told to ignore.

    `nohup` has SIGHUP ignored; a process that SIGUSR1 must not end may be started likewise.
    """
    asked = [signal.Signals[name] for name in _ALWAYS]
    others = [signal.Signals[name] for name in _UNLESS_IGNORED if hasattr(signal, name)]
    return asked + [number for number in others if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def caught(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Have a function called for each signal that asks to end, while the block runs.

    Outside of the main thread, where Python catches no signals, this does nothing.
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
            # None: something other than Python had set it, which cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if usual is None else usual)


@contextmanager
def held() -> Iterator[None]:
    """Hold these signals back until the block's end: an exception in a C library's callback is printed, and lost."""
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
    """A handler that ends what runs, once: later signals but Ctrl-C do not disturb the tidying."""

    def __init__(self) -> None:
        # A shell has its background programs ignore Ctrl-C.
        self._deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        self._stopped = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Called by Python in the main thread.

        Raises:
            KeyboardInterrupt: for SIGINT.
            Stopped: for another one.
        """
        if number == signal.SIGINT:
            if not self._deaf:
                raise KeyboardInterrupt
        elif not self._stopped:
            self._stopped = True
            raise Stopped(number)
