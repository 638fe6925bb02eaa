"""Weights in the safetensors format: a JSON header and raw numbers, so nothing in a file can be executed."""

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

from cmgan_jax.errors import UserError

NOTE = "cmgan_jax"
"""Key of this project's note in a file's metadata."""
_KINDS: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_LENGTH = 8  # bytes of the header's length field


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins like this can be of this format: a length, then a JSON object."""
    return head[_LENGTH : _LENGTH + 1] == b"{" and int.from_bytes(head[:_LENGTH], "little") < 2**32


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """Read a file.

    Args:
        path: the file.

    Returns:
        Arrays by name, bfloat16 as float32; and the note that `safetensors_bytes` stored, or None.

    Raises:
        UserError: the file cannot be read, is damaged, or has a dtype that weights never have.
    """
    try:
        data = path.read_bytes()
        tensors = safetensors.deserialize(data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise UserError(
            f"cannot read {path} as safetensors: it is damaged or incomplete ({error}); fetch or save it again"
        ) from error
    arrays = {}
    for name, tensor in tensors:
        kind = _KINDS.get(tensor["dtype"])
        if kind is None:
            raise UserError(f"cannot read {path}: its tensor {name[:120]} is of {tensor['dtype']}; save it as F32")
        words = np.frombuffer(tensor["data"], f"<u{kind.itemsize}").astype(f"u{kind.itemsize}")
        wide = np.dtype(np.float32) if tensor["dtype"] == "BF16" else kind
        arrays[name] = words.view(kind).astype(wide).reshape(tensor["shape"])
    length = int.from_bytes(data[:_LENGTH], "little")
    # The safetensors library has checked it.
    return arrays, json.loads(data[_LENGTH : _LENGTH + length]).get("__metadata__", {}).get(NOTE)


def safetensors_bytes(state_dict: Mapping[str, np.ndarray], note: str | None = None) -> bytes:
    """Serialise weights to a file's content; equal tensors and notes give equal bytes.

    Args:
        state_dict: arrays by name.
        note: a text for the file's metadata, under `NOTE`.

    Raises:
        ValueError: an array has a dtype that the format lacks.
    """
    arrays = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in state_dict.items()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("=") not in _KINDS.values():
            raise ValueError(f"{name} is of {array.dtype}, which safetensors files of weights do not hold")
    # Only one metadata entry, because the library writes several in arbitrary order.
    return save(arrays, metadata=None if note is None else {NOTE: note})
