"""What a run writes down as it goes: metrics.jsonl and TensorBoard events.

Numbers over steps as TensorBoard reads them, written at once and in this thread: a full disk is heard of.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter

from cmgan_jax.metrics.protocol import PESQ
from cmgan_jax.runs.records import METRICS, read_kind, step_of
from cmgan_jax.system.outputs import plain, replacing


class Curves:
    """Appends points to a file of events; after a failed write the next begins another file.

    Args:
        folder: where the files go.
        purge_from: points of earlier files from this step on are no longer shown; None: all are.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, folder: Path, purge_from: int | None = None):
        self._folder = folder
        self._files = 0
        self._writer: RecordWriter | None = None
        opening = (
            [] if purge_from is None else [Event(step=purge_from, session_log=SessionLog(status=SessionLog.START))]
        )
        self._put(*opening)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write a point of each curve.

        Raises:
            OSError: it could not be written.
        """
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._put(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Close the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            # What could not be written has been told of.
            with suppress(OSError):
                writer.close()

    def _put(self, *events: Event) -> None:
        try:
            if self._writer is None:
                now = time.time()
                self._files += 1
                self._folder.mkdir(parents=True, exist_ok=True)
                name = f"events.out.tfevents.{now:010.0f}.{os.getpid()}.{self._files}"
                self._writer = RecordWriter(str(self._folder / name))
                events = (Event(file_version="brain.Event:2"), *events)
            for event in events:
                event.wall_time = time.time()
                self._writer.write(event.SerializeToString())
            self._writer.flush()
        except OSError:
            self.close()
            raise


class Recorder:
    """Appends records to metrics.jsonl and their numbers to TensorBoard.

    A line is whole or absent. One that cannot be written waits for the next record, or for `sync`.

    Args:
        folder: the run folder.
        step: the step that the run begins at; later records of an interrupted run are dropped, for they come again.
        metric: name of the target metric, which its curves have.

    Attributes:
        records: all of the run so far, also those that could not be written.
    """

    def __init__(self, folder: Path, step: int, metric: str = PESQ.name):
        self._metric = metric
        path = folder / METRICS
        resumed = path.exists()
        # A torn record is before and after nothing, so it is dropped as well.
        self.records: list[dict[str, Any]] = [record for record in read_kind(folder) if step_of(record) <= step]
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in self.records))
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size
        self._waiting: list[bytes] = []
        self._curves = Curves(folder / "tensorboard", purge_from=step + 1 if resumed else None)

    def record(self, kind: str, step: int, numbers: dict[str, Any]) -> OSError | None:
        """Write one record.

        Args:
            kind: `step`, `epoch` or `finding`; or `event`, of what this process met with, which is not the run's own.
            step: updates attempted so far.
            numbers: what was measured; one level of nesting is joined with a slash in TensorBoard.

        Returns:
            Why it could not be written, or None. Lines are tried again with the next record, points of curves are not.
        """
        self.records.append({"kind": kind, "step": step, **plain(numbers)})
        self._waiting.append((json.dumps(self.records[-1]) + "\n").encode())
        points: dict[str, float] = {
            f"{kind}/{name}": value
            for name, value in _flat(numbers)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
        try:
            self._write_waiting()
            self._curves.add(step, self._named(points))
        except OSError as error:
            return error
        return None

    def sync(self) -> OSError | None:
        """Have all records on the disk: a checkpoint counts on those before it, which do not come again.

        Returns:
            Why that is impossible, or None.
        """
        try:
            self._write_waiting()
            os.fsync(self._file.fileno())
        except OSError as error:
            return error
        return None

    def close(self) -> int:
        """Close both; how many records could not be written at all."""
        try:
            self._write_waiting()
        except OSError:
            return len(self._waiting)
        finally:
            self._file.close()
            self._curves.close()
        return 0

    def _named(self, points: dict[str, float]) -> dict[str, float]:
        """Points of curves, those called `score` under the metric's own name where no other curve has it."""
        for name in [name for name in points if name.endswith("/score")]:
            own, value = f"{name.removesuffix('score')}{self._metric}", points.pop(name)
            points[own if points.get(own, value) == value else name] = value
        return points

    def _write_waiting(self) -> None:
        while self._waiting:
            line = self._waiting[0]
            try:
                # A disk that fills up takes a part, and refuses the rest.
                left = line
                while left:
                    left = left[self._file.write(left) :]
            except OSError:
                self._file.truncate(self._size)
                raise
            self._size += len(line)
            del self._waiting[0]


class NullRecorder:
    """In the place of a `Recorder` on the hosts that leave the writing to the first."""

    def record(self, kind: str, step: int, numbers: dict[str, Any]) -> OSError | None:
        """Write nothing."""
        return None

    def sync(self) -> OSError | None:
        """Have nothing on the disk."""
        return None

    def close(self) -> int:
        """Close nothing, and miss nothing."""
        return 0


def _flat(numbers: dict[str, Any]) -> list[tuple[str, Any]]:
    flat = []
    for name, value in numbers.items():
        flat += [(f"{name}/{inner}", v) for inner, v in value.items()] if isinstance(value, dict) else [(name, value)]
    return flat
