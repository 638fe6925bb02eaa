"""PyTorch checkpoints from before version 1.6, read without PyTorch: five pickles, and the numbers behind them.

The pickles are a magic number, the format's version, the writer's byte order, the object and the list of storages. For
each storage in the list follow its count of elements, eight bytes, and its elements, both with the lowest byte first.
"""

import io
import pickletools
import sys
from typing import Any

import numpy as np

from cmgan_jax.interop.torch_pickle import Refused, run

MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number that such a file begins with, as its pickle has it after the two bytes of the protocol."""

_RESAVE = "re-save it with PyTorch: torch.save(torch.load(OLD, weights_only=True), NEW)"


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins so is of this format."""
    return head[:1] == b"\x80" and head[2:].startswith(MAGIC)


def read_legacy(data: bytes) -> Any:
    """What a file holds.

    Args:
        data: all of it.

    Returns:
        Arrays in dicts, lists and tuples, beside strings, numbers, booleans and None.

    Raises:
        Refused: it is damaged, or asks for anything but tensors and plain containers.
    """
    try:
        (*_, content, listed), rest = _pickles(data, 5)
    except ValueError as error:
        raise Refused(
            f"it is in the legacy format from before PyTorch 1.6, and damaged or cut short ({error}); "
            f"fetch it again, or {_RESAVE}"
        ) from error
    # The object is described before the numbers: what it asks for is noted first, and given the second time.
    kinds: dict[str, tuple[np.dtype, int]] = {}

    def note(dtype: np.dtype, key: str, count: int) -> np.ndarray:
        if kinds.setdefault(key, (dtype, count)) != (dtype, count):
            raise Refused(f"its storage {key[:40]} is described in two ways")
        if sum(kind.itemsize * number for kind, number in kinds.values()) > len(data):
            raise Refused("its storages claim more bytes than the file has; fetch it again, or " + _RESAVE)
        return np.zeros(count, dtype)

    run(content, note, len(data))
    storages = _storages(data, rest, run(listed, note, len(data)), kinds)

    def give(dtype: np.dtype, key: str, count: int) -> np.ndarray:
        if key not in storages:
            raise Refused(f"its storage {key[:40]} is missing; fetch it again, or {_RESAVE}")
        return storages[key]

    return run(content, give, len(data))


def _pickles(data: bytes, count: int) -> tuple[list[bytes], int]:
    """So many pickles from the beginning, and where they end."""
    stream, found = io.BytesIO(data), []
    for _ in range(count):
        start = stream.tell()
        for _ in pickletools.genops(stream):
            pass
        found.append(data[start : stream.tell()])
    return found, stream.tell()


def _storages(data: bytes, start: int, listed: Any, kinds: dict[str, tuple[np.dtype, int]]) -> dict[str, np.ndarray]:
    if not isinstance(listed, list) or set(map(str, listed)) - set(kinds):
        raise Refused(f"its list of storages is not that of its tensors; fetch it again, or {_RESAVE}")
    storages = {}
    for key in map(str, listed):
        dtype, count = kinds[key]
        end = start + 8 + count * dtype.itemsize
        if end > len(data) or int.from_bytes(data[start : start + 8], "little") != count:
            raise Refused(f"its storage {key[:40]} is cut short or has another size; fetch it again, or {_RESAVE}")
        array = np.frombuffer(data, f"u{dtype.itemsize}", count, start + 8)
        storages[key] = (array if sys.byteorder == "little" else array.byteswap()).view(dtype)
        start = end
    return storages
