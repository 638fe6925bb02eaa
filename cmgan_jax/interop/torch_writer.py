"""Writer of state dicts as PyTorch checkpoint files that needs no PyTorch.

The pickle inside is assembled opcode by opcode, because it names torch's functions, which `pickle` would have to
import. `torch.load(path, weights_only=True)` reads the result.
"""

import io
import os
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cmgan_jax.errors import UserError
from cmgan_jax.interop.torch_file import NOTE
from cmgan_jax.interop.torch_pickle import ORDERED_DICT, STORAGES, TENSOR
from cmgan_jax.system.outputs import settle

_ROOT = "archive"
_ALIGNMENT = 64  # as in torch.save, so that torch can memory-map the tensors


def write_torch_file(path: str | Path, state_dict: Mapping[str, np.ndarray], note: str | None = None) -> None:
    """Write a checkpoint that `torch.load` reads, atomically.

    The bytes depend only on the names, their order, the numbers and the note, so equal state dicts give equal files.

    Args:
        path: the file; an existing one is replaced once the new one is complete.
        state_dict: arrays by name, of any shape, of a dtype that torch has a storage for.
        note: a text stored in a separate record, which `torch.load` ignores.

    Raises:
        UserError: the file cannot be written there.
        ValueError: an array has a dtype that torch lacks.
    """
    write_whole(Path(path), _archive({name: np.asarray(array) for name, array in state_dict.items()}, note))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            # mkstemp makes the file readable for its owner only; a checkpoint gets the permissions of any other new
            # file.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(part, 0o666 & ~umask)
            settle(Path(part), path)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _archive(arrays: dict[str, np.ndarray], note: str | None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, buffer, "data.pkl", _program(arrays))
        _add(archive, buffer, "byteorder", b"little")
        for key, array in enumerate(arrays.values()):
            _add(archive, buffer, f"data/{key}", _little_endian(array))
        _add(archive, buffer, "version", b"3\n")
        if note is not None:
            _add(archive, buffer, NOTE, note.encode())
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, buffer: io.BytesIO, name: str, data: bytes) -> None:
    # The earliest date that a zip can hold, and a fixed creator system, so that the bytes do not depend on this
    # machine.
    info = zipfile.ZipInfo(f"{_ROOT}/{name}", (1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16
    start = buffer.tell() + 30 + len(info.filename) + 4  # local header, name, head of the extra field
    padding = -start % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + bytes(padding)
    archive.writestr(info, data)


def _little_endian(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _program(arrays: dict[str, np.ndarray]) -> bytes:
    tensors = b"".join(_text(name) + _tensor(name, key, array) for key, (name, array) in enumerate(arrays.items()))
    return b"\x80\x02" + _global(ORDERED_DICT) + b")R" + b"(" + tensors + b"u."


def _tensor(name: str, key: int, array: np.ndarray) -> bytes:
    kinds = {dtype: kind for kind, dtype in STORAGES.items()}
    kind = kinds.get(array.dtype.newbyteorder("="))
    if kind is None:
        raise ValueError(f"{name} is of {array.dtype}, which torch has no storage for")
    # C-contiguous strides in elements, as torch counts them: the product of the sizes to the right.
    strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
    storage = _text("storage") + _global(kind) + _text(str(key)) + _text("cpu") + _int(array.size)
    return (
        _global(TENSOR)
        + b"(("
        + storage
        + b"tQ"
        + _int(0)
        + _tuple(array.shape)
        + _tuple(strides)
        + b"\x89"  # requires_grad: false
        + _global(ORDERED_DICT)
        + b")R"  # backward hooks: none
        + b"tR"
    )


def _global(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _tuple(values: tuple[int, ...] | list[int]) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"
