"""Enhancement of long signals in overlapping, cross-faded windows, with memory that does not grow with the length.

The first and last frames of a window lack context. So neighbouring windows overlap by `fade + 2 · edge` samples and are
joined by a linear cross-fade in the middle of the overlap:

    window k    ───────────────┐ fade ┌ edge ┐
    window k+1      ┌ edge ┐ fade └───────────────
    result      kkkkkkkkkkkkkkkkk╲╱k+1 k+1 k+1 …

All windows have the same length and begin at whole hops. The last one ends with the signal, so it may overlap its
predecessor by more. A signal no longer than `whole` is enhanced in one piece.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Floats = np.ndarray
Run = Callable[[list[Floats], bool], list[Floats]]
"""Function that enhances pieces, float32[S] each, given whether they are windows of a longer signal."""


@dataclass(frozen=True)
class Layout:
    """Arrangement of windows, in samples.

    Attributes:
        length: length of a window.
        edge: samples discarded at each inner end of a window.
        fade: length of the cross-fade between two windows.
        hop: windows begin at multiples of the hop.
        batch: maximum number of windows that are enhanced at once.
        whole: longest signal that is not cut; at least `length`.
    """

    length: int
    edge: int
    fade: int
    hop: int
    batch: int
    whole: int

    def __post_init__(self) -> None:
        if self.whole < self.length or self.batch < 1:
            raise ValueError(f"whole up to {self.whole}, windows of {self.length}, {self.batch} at once: too little")
        if self.step < self.hop or self.step % self.hop or min(self.edge, self.fade) < 0:
            raise ValueError(
                f"windows of {self.length} samples do not advance by whole hops of {self.hop} with an overlap of "
                f"{self.fade} + 2 · {self.edge}"
            )

    @property
    def step(self) -> int:
        """Samples from the beginning of one window to that of the next."""
        return self.length - self.fade - 2 * self.edge


class WindowedStream:
    """Enhances a signal that arrives in blocks of any size; the result does not depend on the blocks.

    Args:
        run: enhances pieces; windows of several channels share a call, up to `layout.batch`.
        layout: arrangement of the windows.
        channels: number of channels, each enhanced independently.
    """

    def __init__(self, run: Run, layout: Layout, channels: int = 1):
        self._run, self._layout, self._channels = run, layout, channels
        self._held: list[Floats] = []
        # Number of samples received, and the offsets of the buffer, of the next window and of the next result.
        self._end = self._held_from = self._next = self._out = 0
        # The last window's part of the next cross-fade.
        self._tail: Floats | None = None

    def push(self, block: Floats) -> Floats:
        """Take samples float32[S, channels] and return those that are ready, float32[S', channels].

        A sample is returned at the latest after `layout.whole` further samples have been pushed.
        """
        self._held.append(block)
        self._end += len(block)
        ready = []
        # The window that ends with the signal is treated as the last, so wait until there are samples beyond a window.
        while self._end > self._layout.whole and self._next + self._layout.length < self._end:
            ready.append(self._next)
            self._next += self._layout.step
        if not ready:
            return np.zeros((0, self._channels), np.float32)
        done = self._enhance([(start, start + self._layout.length) for start in ready])
        joined = [self._join(start, piece, last=False) for start, piece in zip(ready, done, strict=True)]
        # Keep what the last window may need, which can begin up to one step before the next window.
        self._forget(max(self._held_from, self._next - self._layout.step))
        return np.concatenate(joined)

    def flush(self) -> Floats:
        """Return the rest after the last block, float32[S', channels]."""
        if self._end == self._out:
            return np.zeros((0, self._channels), np.float32)
        if self._end <= self._layout.whole:
            (piece,) = self._enhance([(0, self._end)], part=False)
            return piece
        late = self._end - self._layout.length
        start = -(-late // self._layout.hop) * self._layout.hop
        (piece,) = self._enhance([(start, self._end)])
        return self._join(start, piece, last=True)

    def _enhance(self, spans: list[tuple[int, int]], part: bool = True) -> list[Floats]:
        if len(self._held) != 1:
            self._held = [np.concatenate(self._held)]
        held = self._held[0]
        pieces = [
            np.ascontiguousarray(held[start - self._held_from : stop - self._held_from, channel])
            for start, stop in spans
            for channel in range(self._channels)
        ]
        # Pieces that are longer than a window are enhanced one at a time, to limit memory.
        size = self._layout.batch if max(map(len, pieces)) <= self._layout.length else 1
        done = [out for first in range(0, len(pieces), size) for out in self._run(pieces[first : first + size], part)]
        return [np.stack(done[i : i + self._channels], axis=1) for i in range(0, len(done), self._channels)]

    def _join(self, start: int, piece: Floats, last: bool) -> Floats:
        """Return the samples that a window adds to the result from `_out` on; store its part of the next cross-fade."""
        layout = self._layout
        stop = len(piece) if last else layout.length - layout.edge - layout.fade
        fresh = piece[self._out - start : stop].copy()
        if self._tail is not None:
            rise = (np.arange(1, layout.fade + 1, dtype=np.float32) / np.float32(layout.fade + 1))[:, None]
            fresh[: layout.fade] = rise * fresh[: layout.fade] + (1 - rise) * self._tail
        if not last:
            self._tail = piece[stop : stop + layout.fade].copy()
        self._out = start + stop
        return fresh

    def _forget(self, before: int) -> None:
        self._held = [self._held[0][before - self._held_from :].copy()]
        self._held_from = before
