"""Numbers over steps as TensorBoard reads them, written at once and in this thread: a full disk is heard of."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter


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
