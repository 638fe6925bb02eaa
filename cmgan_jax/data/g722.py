"""G.722 without a header, as prompts of telephone systems are: 16 kHz, two samples a byte (ITU-T G.722)."""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

import numpy as np

RATE = 16_000
"""Samples per second."""
_BITS = 64_000
# About 140 minutes: a corpus of prompts is decoded once, in its first pass.
_CACHE_BYTES = 256 * 2**20


class ByteBoundedCache:
    """The most recently used decoded files, up to a number of bytes; safe to share between threads."""

    def __init__(self, limit: int):
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[Path, int, int], np.ndarray] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[Path, int, int]) -> np.ndarray | None:
        """A file that is held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: tuple[Path, int, int], audio: np.ndarray) -> None:
        """Hold a file, and let go of those that were used longest ago."""
        with self._lock:
            if key in self._held or audio.nbytes > self._limit:
                return
            self._held[key] = audio
            self._bytes += audio.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._held.popitem(last=False)[1].nbytes


_cache = ByteBoundedCache(_CACHE_BYTES)


def samples(file: BinaryIO) -> int:
    """How many samples an open file holds."""
    return 2 * os.fstat(file.fileno()).st_size


def decode(path: Path, file: BinaryIO) -> np.ndarray:
    """The whole file as int16 [S]: the decoder adapts as it goes, so that no part stands alone.

    Args:
        path: under which the cache holds it.
        file: open for reading, at its beginning.

    Raises:
        OSError: the file system refuses.
    """
    found = os.fstat(file.fileno())
    # The modification time is part of the key: a file that was replaced is decoded anew.
    key = (path, found.st_mtime_ns, found.st_size)
    audio = _cache.get(key)
    if audio is None:
        from G722 import G722  # Here alone: few have such files.

        audio = np.asarray(G722(RATE, _BITS).decode(file.read()), np.int16)
        _cache.put(key, audio)
    return audio
