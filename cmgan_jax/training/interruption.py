"""Signals ask a run to save and leave; a second one from the keyboard does not wait."""

import signal
from contextlib import ExitStack
from types import FrameType, TracebackType

from cmgan_jax.system import signals

_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)


class Interruption:
    """Catches the first signal that asks to end, while it is entered; `signals.heeded` tells which do.

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
        # The first one: a scheduler may send others while the checkpoint is being written.
        self.signal = self.signal or signal.Signals(number)
