"""Long signals in overlapping windows, cross-faded, in memory that does not grow with the length.

A window's first and last frames lack context, so neighbours overlap by `fade + 2 · edge` samples and are joined by a
linear cross-fade in the middle of it:

    window k    ───────────────┐ fade ┌ edge ┐
    window k+1      ┌ edge ┐ fade └───────────────
    result      kkkkkkkkkkkkkkkkk╲╱k+1 k+1 k+1 …

All windows have the same length and begin at whole hops. The last one begins so late that it ends with the signal,
and overlaps its predecessor by more. A signal no longer than `whole` is one piece: nothing is joined.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Floats = np.ndarray
Run = Callable[[list[Floats], bool], list[Floats]]
"""Enhances pieces float32[S] to as many of the same lengths; told whether they are windows of something longer."""


@dataclass(frozen=True)
class Layout:
    """Where windows lie, in samples.

    Attributes:
        length: of a window.
        edge: at each inner end of a window, not used.
        fade: in which two windows are cross-faded.
        hop: windows begin at multiples of it.
        batch: windows that are enhanced at once, at most.
        whole: a signal up to this length is not cut; at least `length`.
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
        """From one window's beginning to the next."""
        return self.length - self.fade - 2 * self.edge


class WindowedStream:
    """Enhances a signal that arrives in blocks of any size; the result does not depend on the blocks.

    Args:
        run: enhances pieces; windows of several channels share a call, up to `layout.batch`.
        layout: where windows lie.
        channels: how many, each enhanced by itself.
    """

    def __init__(self, run: Run, layout: Layout, channels: int = 1):
        self._run, self._layout, self._channels = run, layout, channels
        self._held: list[Floats] = []
        # Samples that arrived; where the held ones, the next window and the next result begin.
        self._end = self._held_from = self._next = self._out = 0
        # What the last window says of the cross-fade to come.
        self._tail: Floats | None = None

    def push(self, block: Floats) -> Floats:
        """Take float32[S, channels] and give what can be known by now, float32[S', channels].

        A sample comes out at the latest when `layout.whole` more have gone in.
        """
        self._held.append(block)
        self._end += len(block)
        ready = []
        # A window that ends with the signal is the last, so one is enhanced only when more than it is there.
        while self._end > self._layout.whole and self._next + self._layout.length < self._end:
            ready.append(self._next)
            self._next += self._layout.step
        if not ready:
            return np.zeros((0, self._channels), np.float32)
        done = self._enhance([(start, start + self._layout.length) for start in ready])
        joined = [self._join(start, piece, last=False) for start, piece in zip(ready, done, strict=True)]
        # The last window may reach back by a whole one.
        self._forget(max(self._held_from, self._next - self._layout.step))
        return np.concatenate(joined)

    def flush(self) -> Floats:
        """The rest, float32[S', channels], after the last block."""
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
        # What is longer than a window is enhanced alone: memory.
        size = self._layout.batch if max(map(len, pieces)) <= self._layout.length else 1
        done = [out for first in range(0, len(pieces), size) for out in self._run(pieces[first : first + size], part)]
        return [np.stack(done[i : i + self._channels], axis=1) for i in range(0, len(done), self._channels)]

    def _join(self, start: int, piece: Floats, last: bool) -> Floats:
        """What a window adds to the result, from `_out` on; its own cross-fade is kept for the next."""
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
