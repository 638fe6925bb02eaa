"""Hosts that train together, and their communication outside the device programs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cmgan_jax.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Requests:
    """What a host asks all hosts to do after the next step.

    Attributes:
        stop: number of the signal that stops the run; 0: continue.
        save: whether to write a checkpoint.
    """

    stop: int = 0
    save: bool = False


NO_REQUESTS = Requests()
"""Requests of a host that asks for nothing: continue without a checkpoint."""


@dataclass(frozen=True)
class Hosts:
    """This host among all hosts of a run. A host is a JAX process; a cluster may start several on one machine.

    Every host must call the methods in the same order, except for `share`, which does not communicate.

    Attributes:
        index: index of this host, from 0; the first host validates, writes and prints.
        count: number of hosts.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def present(cls) -> Self:
        """The hosts that JAX knows of: one, unless `jax.distributed` was initialised."""
        return cls(jax.process_index(), jax.process_count())

    @property
    def first(self) -> bool:
        """Whether this is the host that validates, writes and prints."""
        return self.index == 0

    def share(self, batch: np.ndarray) -> np.ndarray:
        """This host's B / count rows of a global batch [B, ...]; rows are assigned in the order of hosts."""
        rows = len(batch) // self.count
        return batch[self.index * rows : (self.index + 1) * rows]

    def exchange(self, array: np.ndarray) -> np.ndarray:
        """Gather the arrays of all hosts, of the same shape and dtype, on every host.

        Returns:
            [count, ...], bit for bit; this includes 64-bit numbers, which JAX itself would round.
        """
        array = np.asarray(array)
        if self.count == 1:
            return array[None]
        raw = np.frombuffer(array.tobytes(), np.uint8)
        return np.ascontiguousarray(multihost_utils.process_allgather(raw)).view(array.dtype).reshape(-1, *array.shape)

    def exchange_requests(self, mine: Requests) -> Requests:
        """Agree on what all hosts do after the next step.

        Args:
            mine: requests of this host.

        Returns:
            The highest signal number that any host received, and whether the first host asks for a checkpoint, since
            its clock decides. The result is the same on every host.
        """
        if self.count == 1:
            return mine
        told = self.exchange(np.array([mine.stop, mine.save], np.uint8))
        return Requests(int(told[:, 0].max()), bool(told[0, 1]))

    def tell(self, text: str) -> list[str]:
        """Gather the texts of all hosts on every host, in the order of hosts."""
        if self.count == 1:
            return [text]
        raw = text.encode(errors="surrogateescape")
        lengths = self.exchange(np.array(len(raw)))
        # Pad to a power of two, because a program is compiled for each length.
        padded = np.zeros(1 << int(max(lengths)).bit_length(), np.uint8)
        padded[: len(raw)] = np.frombuffer(raw, np.uint8)
        texts = zip(self.exchange(padded), lengths, strict=True)
        return [row[:length].tobytes().decode(errors="surrogateescape") for row, length in texts]

    def agree(self, work: Callable[[], T]) -> T:
        """Do work that may fail on some hosts only, so that either all hosts continue or none does.

        Args:
            work: called on each host; it must not wait for another host.

        Raises:
            UserError: the work failed on another host, with the message from there. If it failed here, its own
                exception is raised.
        """
        if self.count == 1:
            return work()
        try:
            result, error = work(), None
        except (UserError, OSError) as raised:
            result, error = None, raised
        told = self.tell(str(error) if error else "")
        if error:
            raise error
        if failed := [f"host {index}: {text}" for index, text in enumerate(told) if text]:
            raise UserError("\n".join(failed))
        return result  # type: ignore[return-value]

    def unlike_first(self, text: str) -> list[int]:
        """Indices of the hosts whose text differs from that of the first host."""
        told = self.tell(text)
        return [index for index, other in enumerate(told) if other != told[0]]

    def from_first(self, work: Callable[[], Any]) -> Any:
        """Do work on the first host only, and send its result, which must be JSON-serialisable, to all hosts.

        Raises:
            UserError: as in `agree`.
        """
        if self.count == 1:
            return work()
        return json.loads(self.tell(self.agree(lambda: json.dumps(work()) if self.first else ""))[0])


ALONE = Hosts()
"""The only host of a run that is not distributed."""
