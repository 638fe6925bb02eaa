"""Weights in the safetensors format: a JSON header and plain numbers, so that nothing in a file can be executed."""

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

from cmgan_jax.errors import UserError

NOTE = "cmgan_jax"
"""Key of this project's text in a file's metadata."""
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
_LENGTH = 8  # bytes of the header's length


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so can be of this format: a length, then a JSON object."""
    return head[_LENGTH : _LENGTH + 1] == b"{" and int.from_bytes(head[:_LENGTH], "little") < 2**32


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """Read a file.

    Args:
        path: of the file.

    Returns:
        A name to an array, bfloat16 as float32; and what `safetensors_bytes` noted in it, or None.

    Raises:
        UserError: it cannot be read, is damaged, or holds numbers of a kind that weights never are.
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
    # The library has checked it.
    return arrays, json.loads(data[_LENGTH : _LENGTH + length]).get("__metadata__", {}).get(NOTE)


def safetensors_bytes(state_dict: Mapping[str, np.ndarray], note: str | None = None) -> bytes:
    """A file's content; equal tensors and notes give equal bytes.

    Args:
        state_dict: a name to an array.
        note: a text for the file's metadata, under `NOTE`.

    Raises:
        ValueError: an array is of a kind that the format does not have.
    """
    arrays = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in state_dict.items()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("=") not in _KINDS.values():
            raise ValueError(f"{name} is of {array.dtype}, which safetensors files of weights do not hold")
    # One text alone: the library writes several in any order.
    return save(arrays, metadata=None if note is None else {NOTE: note})
