"""Hosts that train together: which of them this is, and what they tell each other between the devices' programs."""

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
        stop: number of the signal to stop by; 0: go on.
        save: write a checkpoint.
    """

    stop: int = 0
    save: bool = False


NO_REQUESTS = Requests()
"""Go on, and write nothing."""


@dataclass(frozen=True)
class Hosts:
    """This host among those of a run. A host is a process of JAX: a cluster may start several on one machine.

    All methods but `share` are to be called by every host, in the same order.

    Attributes:
        index: of this host, from 0; the first one validates, writes and prints.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def present(cls) -> Self:
        """Those that JAX knows of: one, unless `jax.distributed` was started."""
        return cls(jax.process_index(), jax.process_count())

    @property
    def first(self) -> bool:
        """Whether this is the host that validates, writes and prints."""
        return self.index == 0

    def share(self, batch: np.ndarray) -> np.ndarray:
        """This host's rows of a global batch [B, ...]: B / count of them, in the order of hosts."""
        rows = len(batch) // self.count
        return batch[self.index * rows : (self.index + 1) * rows]

    def exchange(self, array: np.ndarray) -> np.ndarray:
        """Bring every host's array, of the same shape and type, to every host.

        Returns:
            [count, ...], bit for bit: 64-bit numbers too, which JAX would round.
        """
        array = np.asarray(array)
        if self.count == 1:
            return array[None]
        raw = np.frombuffer(array.tobytes(), np.uint8)
        return np.ascontiguousarray(multihost_utils.process_allgather(raw)).view(array.dtype).reshape(-1, *array.shape)

    def exchange_requests(self, mine: Requests) -> Requests:
        """Agree on what all hosts do after the next step.

        Args:
            mine: what this host asks for.

        Returns:
            The highest number of a signal that any host received, and whether the first host asks for a checkpoint:
            its clock decides. They are the same on every host.
        """
        if self.count == 1:
            return mine
        told = self.exchange(np.array([mine.stop, mine.save], np.uint8))
        return Requests(int(told[:, 0].max()), bool(told[0, 1]))

    def tell(self, text: str) -> list[str]:
        """Bring every host's text to every host, in their order."""
        if self.count == 1:
            return [text]
        raw = text.encode(errors="surrogateescape")
        lengths = self.exchange(np.array(len(raw)))
        # Padded to a power of two: a program is compiled for each length.
        padded = np.zeros(1 << int(max(lengths)).bit_length(), np.uint8)
        padded[: len(raw)] = np.frombuffer(raw, np.uint8)
        texts = zip(self.exchange(padded), lengths, strict=True)
        return [row[:length].tobytes().decode(errors="surrogateescape") for row, length in texts]

    def agree(self, work: Callable[[], T]) -> T:
        """Do what may fail on one host alone, so that all go on or none does.

        Args:
            work: done on each host; it must not wait for another host.

        Raises:
            UserError: the work failed on another host, with that host's words; or whatever it raised here.
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
        """Hosts whose text is not the first one's."""
        told = self.tell(text)
        return [index for index, other in enumerate(told) if other != told[0]]

    def from_first(self, work: Callable[[], Any]) -> Any:
        """Do work on the first host alone; its result, which JSON can hold, comes to all.

        Raises:
            UserError: as in `agree`.
        """
        if self.count == 1:
            return work()
        return json.loads(self.tell(self.agree(lambda: json.dumps(work()) if self.first else ""))[0])


ALONE = Hosts()
"""The one host of a run that is not distributed."""
