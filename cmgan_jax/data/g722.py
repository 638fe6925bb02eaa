"""G.722 files without a header, as telephone systems' prompts are: 16 kHz, two samples per byte (ITU-T G.722)."""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

import numpy as np

RATE = 16_000
"""Sample rate in Hz."""
_BITS = 64_000
# About 140 minutes of audio, so that a corpus of prompts is decoded once, in the first epoch.
_CACHE_BYTES = 256 * 2**20


class ByteBoundedCache:
    """A thread-safe cache of the most recently used decoded files, limited by their total size in bytes."""

    def __init__(self, limit: int):
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[Path, int, int], np.ndarray] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[Path, int, int]) -> np.ndarray | None:
        """Return a cached file, or None."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: tuple[Path, int, int], audio: np.ndarray) -> None:
        """Cache a file, and evict those least recently used."""
        with self._lock:
            if key in self._held or audio.nbytes > self._limit:
                return
            self._held[key] = audio
            self._bytes += audio.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._held.popitem(last=False)[1].nbytes


_cache = ByteBoundedCache(_CACHE_BYTES)


def samples(file: BinaryIO) -> int:
    """Return the number of samples in an open file."""
    return 2 * os.fstat(file.fileno()).st_size


def decode(path: Path, file: BinaryIO) -> np.ndarray:
    """Decode the whole file to int16 [S]; the decoder is adaptive, so no part can be decoded by itself.

    Args:
        path: the path, which is part of the cache's key.
        file: open for reading, at its beginning.

    Raises:
        OSError: the file system refuses.
    """
    found = os.fstat(file.fileno())
    # The modification time is part of the key, so that a replaced file is decoded again.
    key = (path, found.st_mtime_ns, found.st_size)
    audio = _cache.get(key)
    if audio is None:
        from G722 import G722  # Imported lazily, as few users have such files.

        audio = np.asarray(G722(RATE, _BITS).decode(file.read()), np.int16)
        _cache.put(key, audio)
    return audio
