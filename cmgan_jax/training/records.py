"""Records of a running training: metrics.jsonl and TensorBoard events.

Events are written immediately and in the calling thread, so that errors such as a full disk are noticed.
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
    """Appends points to a TensorBoard event file; after a failed write, the next write begins a new file.

    Args:
        folder: folder of the event files.
        purge_from: step from which TensorBoard hides points of earlier files; None: it shows all.

    Raises:
        OSError: the folder cannot be written to.
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
        """Write one point of each curve.

        Raises:
            OSError: the points could not be written.
        """
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._put(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Close the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            # A failed write has already been reported.
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

    Lines are complete or absent. A line that cannot be written is tried again with the next record, or by `sync`.

    Args:
        folder: the run folder.
        step: step at which the run begins; later records of an interrupted run are dropped, since they will be written
            again.
        metric: name of the target metric, used for its curves.

    Attributes:
        records: all records of the run so far, including those that could not be written.
    """

    def __init__(self, folder: Path, step: int, metric: str = PESQ.name):
        self._metric = metric
        path = folder / METRICS
        resumed = path.exists()
        # An incomplete record has no step, so it is dropped as well.
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
            kind: `step`, `epoch` or `finding`; or `event`, which concerns this process rather than the run.
            step: number of updates attempted so far.
            numbers: measured values; in TensorBoard, one level of nesting is joined with a slash.

        Returns:
            The error if writing failed, or None. Lines are tried again with the next record, points of curves are not.
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
        """Flush all records to disk, since the records before a checkpoint are not written again after a resume.

        Returns:
            The error if that failed, or None.
        """
        try:
            self._write_waiting()
            os.fsync(self._file.fileno())
        except OSError as error:
            return error
        return None

    def close(self) -> int:
        """Close both; return the number of records that could not be written at all."""
        try:
            self._write_waiting()
        except OSError:
            return len(self._waiting)
        finally:
            self._file.close()
            self._curves.close()
        return 0

    def _named(self, points: dict[str, float]) -> dict[str, float]:
        """Rename curves called `score` to the metric's own name, unless another curve has that name."""
        for name in [name for name in points if name.endswith("/score")]:
            own, value = f"{name.removesuffix('score')}{self._metric}", points.pop(name)
            points[own if points.get(own, value) == value else name] = value
        return points

    def _write_waiting(self) -> None:
        while self._waiting:
            line = self._waiting[0]
            try:
                # A disk that fills up may accept only a part.
                left = line
                while left:
                    left = left[self._file.write(left) :]
            except OSError:
                self._file.truncate(self._size)
                raise
            self._size += len(line)
            del self._waiting[0]


class NullRecorder:
    """Replaces `Recorder` on all hosts except the first, which does all the writing."""

    def record(self, kind: str, step: int, numbers: dict[str, Any]) -> OSError | None:
        """Do nothing."""
        return None

    def sync(self) -> OSError | None:
        """Do nothing."""
        return None

    def close(self) -> int:
        """Do nothing; no record is lost."""
        return 0


def _flat(numbers: dict[str, Any]) -> list[tuple[str, Any]]:
    flat = []
    for name, value in numbers.items():
        flat += [(f"{name}/{inner}", v) for inner, v in value.items()] if isinstance(value, dict) else [(name, value)]
    return flat
