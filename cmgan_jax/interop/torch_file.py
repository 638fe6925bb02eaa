"""Reader for PyTorch checkpoint files that needs no PyTorch and executes nothing from the file.

A checkpoint of `torch.save` is an uncompressed zip: the pickle `ROOT/data.pkl` describes the objects, and each storage
has a record of raw numbers, `ROOT/data/KEY`. `read_legacy` reads the format from before PyTorch 1.6.

The legacy format consists of five pickles, followed by the numbers.

The pickles are a magic number, the format's version, the writer's byte order, the object and the list of storages. Then
follow, for each storage in the list, its number of elements (eight bytes) and its elements, both little-endian.
"""

import io
import pickletools
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cmgan_jax.errors import UserError
from cmgan_jax.interop import foreign
from cmgan_jax.interop.torch_pickle import Refused, run

MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""Magic number of the legacy format, as in its pickle after the two bytes of the protocol."""

_RESAVE = "re-save it with PyTorch: torch.save(torch.load(OLD, weights_only=True), NEW)"


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins like this has the legacy format."""
    return head[:1] == b"\x80" and head[2:].startswith(MAGIC)


def read_legacy(data: bytes) -> Any:
    """Read a checkpoint in the legacy format.

    Args:
        data: the whole file.

    Returns:
        Dicts, lists and tuples of arrays, strings, numbers, booleans and None.

    Raises:
        Refused: the file is damaged, or asks for anything but tensors and plain containers.
    """
    try:
        (*_, content, listed), rest = _pickles(data, 5)
    except ValueError as error:
        raise Refused(
            f"it is in the legacy format from before PyTorch 1.6, and damaged or cut short ({error}); "
            f"fetch it again, or {_RESAVE}"
        ) from error
    # The object's description precedes the numbers, so it is run twice: first to note its storages, then to fill them.
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
    """Split off the first `count` pickles, and return where they end."""
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


ZIP = b"PK\x03\x04"
"""Magic bytes of a zip archive."""
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,  # encryption, or a feature that Python does not support
    ValueError,
)


NOTE = "cmgan_jax.json"
"""Name of the record with this project's note. PyTorch looks up records by name, and so ignores it."""


def read_torch_file(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that `torch.save` wrote, without executing anything from it.

    Args:
        path: a file in the zip format (PyTorch 1.6 and later) or in the legacy one.

    Returns:
        The saved mapping: arrays by name for a plain state dict, and nested dicts, lists, tuples, strings and numbers
        if there are any. Arrays are contiguous copies, bfloat16 as float32.

    Raises:
        UserError: the file is missing, truncated, of another format, inconsistent with itself, or asks for anything but
            tensors and plain containers; the message says what.
    """
    return read_torch_file_and_note(path)[0]


def read_torch_file_and_note(path: str | Path) -> tuple[dict[str, Any], str | None]:
    """Read such a checkpoint, and the note that `torch_writer` stored in it, or None.

    Args and Raises are as in `read_torch_file`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content, note = _read(file, path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Refused as refusal:
        raise UserError(f"cannot read {path} as a PyTorch checkpoint: {refusal}") from refusal
    if not isinstance(content, dict):
        kind = "one tensor" if isinstance(content, np.ndarray) else f"a {type(content).__name__}"
        raise UserError(
            f"cannot read {path} as a PyTorch checkpoint: it holds {kind}, not a state dict; save model.state_dict()"
        )
    return content, note


def _read(file: BinaryIO, path: Path) -> tuple[Any, str | None]:
    head = file.read(foreign.HEAD)
    if is_legacy(head):
        return read_legacy(head + file.read()), None
    if not head.startswith(ZIP):
        raise Refused(foreign.described(path.name, head))
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            records = _Records(archive, size)
            note = records.read(NOTE).decode() if records.has(NOTE) else None
            return run(records.read("data.pkl"), records.storage, size), note
    except _ZIP_ERRORS as error:
        raise Refused(f"its zip archive is damaged or incomplete ({error}); fetch or save it again") from error


class _Records:
    """The records of an archive; they are looked up by name only, and no name is used as a path."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        self.bytes_left = size
        self.infos = {info.filename: info for info in archive.infolist()}
        self.storages: dict[str, np.ndarray] = {}
        if len(self.infos) != len(archive.infolist()):
            raise Refused("two records of its zip archive have the same name")
        roots = [name.removesuffix("/data.pkl") for name in self.infos if name.endswith("/data.pkl")]
        if len(roots) != 1 or "/" in roots[0]:
            if (other := foreign.described_archive(foreign.names_in(archive))) is not None:
                raise Refused(other)
            raise Refused("its zip archive has no record NAME/data.pkl, so torch.save did not write it")
        self.root = roots[0]
        if self.has("constants.pkl"):
            raise Refused("it is a TorchScript program; save its state dict: torch.save(m.state_dict(), NEW)")
        # It is absent in files of PyTorch 1, which in practice were always little-endian.
        order = self.read("byteorder") if self.has("byteorder") else b"little"
        if order not in (b"little", b"big"):
            raise Refused(f"its byte order is {order[:16]!r}, neither little nor big")
        self.swapped = order.decode() != sys.byteorder

    def has(self, name: str) -> bool:
        """Whether there is a record of this name."""
        return f"{self.root}/{name}" in self.infos

    def read(self, name: str) -> bytes:
        """Read a record's bytes; none is compressed or read twice, so the total is limited by the file's size."""
        info = self.infos.get(f"{self.root}/{name}")
        if info is None:
            raise Refused(f"its record {name} is missing; fetch or save it again")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise Refused(f"its record {name} is compressed, which torch.save never does; re-save it with PyTorch")
        self.bytes_left -= info.file_size
        if self.bytes_left < 0:
            raise Refused(f"its records (up to {name}) claim more bytes than the file has; fetch it again")
        return self.archive.read(info)

    def storage(self, dtype: np.dtype, key: str, count: int) -> np.ndarray:
        """Read the record of a storage as a 1-D array in this machine's byte order."""
        if not (key.isascii() and key.isdigit() and len(key) < 20):
            raise Refused(f"a storage has the name {key[:40]!r}, which is no number")
        if key not in self.storages:
            data = self.read(f"data/{key}")
            if len(data) != count * dtype.itemsize:
                raise Refused(f"its record data/{key} has {len(data)} bytes, not those of {count} {dtype}")
            array = np.frombuffer(data, f"u{dtype.itemsize}")
            self.storages[key] = (array.byteswap() if self.swapped else array).view(dtype)
        array = self.storages[key]
        if array.dtype != dtype or array.size != count:
            raise Refused(f"its record data/{key} is described in two ways")
        return array
