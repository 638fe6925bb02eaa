"""Signals that ask a run to save and exit; a second one from the keyboard ends it at once."""

import signal
from contextlib import ExitStack
from types import FrameType, TracebackType

from cmgan_jax.system import signals

_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)


class Interruption:
    """Context manager that catches the first signal that asks to end; `signals.heeded` lists these signals.

    Attributes:
        signal: the signal caught, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._entered = ExitStack()

    def __enter__(self) -> "Interruption":
        self._entered.enter_context(signals.caught(self._catch))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number in _KEYBOARD:
            raise KeyboardInterrupt
        # Keep the first signal: a scheduler may send others while the checkpoint is being written.
        self.signal = self.signal or signal.Signals(number)
