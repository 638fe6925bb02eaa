"""Progress messages for work that takes long."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SECONDS = 60.0
"""Time until the first message about a block. The second follows after the same time; later intervals double."""


def duration(seconds: float | None) -> str:
    """Format a duration: 42 s, 3 min 20 s, 5 h 10 min."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def told_while(say: Callable[[str], None], what: str, first: float | None = None) -> Iterator[None]:
    """Report from time to time, while the block runs, what takes so long: `WHAT (3 min 20 s so far)`.

    Args:
        say: called with the message, in another thread.
        what: description of the work.
        first: seconds until the first message; None: `FIRST_SECONDS`.
    """
    began, done = time.monotonic(), threading.Event()

    def tell() -> None:
        least = pause = FIRST_SECONDS if first is None else first
        while not done.wait(pause):
            passed = time.monotonic() - began
            say(f"{what} ({duration(passed)} so far)")
            pause = max(passed, least)

    thread = threading.Thread(target=tell, name="patience", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
