"""Checkpoint files for tests, made by the standard pickle with stand-ins for torch's names.

So they depend neither on torch nor on the writer under test.
"""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgan_jax.interop.torch_pickle import STORAGES

KINDS = [kind.removeprefix("torch.") for kind in STORAGES] + ["ComplexFloatStorage"]
FUNCTIONS = ["_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_tensor_v2_", "_rebuild_qtensor"]


def _function(name: str) -> Any:
    function: Any = types.FunctionType((lambda *_: None).__code__, {}, name)
    function.__module__, function.__qualname__ = "torch._utils", name
    return function


TORCH, UTILS = types.ModuleType("torch"), types.ModuleType("torch._utils")
vars(TORCH).update({name: type(name, (), {"__module__": "torch"}) for name in KINDS})
vars(UTILS).update({name: _function(name) for name in FUNCTIONS})


@dataclass(frozen=True)
class Storage:
    kind: str
    key: str
    count: int
    more: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Call:
    """An object whose pickle calls a global."""

    function: Any
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def named(name: str) -> Any:
    """A function of torch._utils."""
    return getattr(UTILS, name)


def tensor(storage: Any, shape: Any, strides: Any, offset: Any = 0) -> Call:
    return Call(named("_rebuild_tensor_v2"), (storage, offset, shape, strides, False, OrderedDict()))


def program(content: Any, protocol: int = 2) -> bytes:
    class Saver(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if not isinstance(obj, Storage):
                return None
            return ("storage", getattr(TORCH, obj.kind), obj.key, "cpu", obj.count, *obj.more)

    buffer = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", TORCH)
        patch.setitem(sys.modules, "torch._utils", UTILS)
        Saver(buffer, protocol).dump(content)
    return buffer.getvalue()


def save(
    path: Path, data: bytes, records: dict[str, bytes] | None = None, order: bytes = b"little", compression: int = 0
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", data)
        archive.writestr("model/byteorder", order)
        for name, record in (records or {}).items():
            archive.writestr(f"model/{name}", record)
    return path


def save_legacy(path: Path, content: Any, storages: dict[str, np.ndarray], listed: list[str] | None = None) -> Path:
    """A file as PyTorch wrote it before 1.6: what `torch.serialization._legacy_save` does."""
    parts = [pickle.dumps(of, 2) for of in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [program(content), pickle.dumps(sorted(storages) if listed is None else listed, 2)]
    for _, array in sorted(storages.items()):
        parts += [array.size.to_bytes(8, "little"), array.astype(array.dtype.newbyteorder("<")).tobytes()]
    path.write_bytes(b"".join(parts))
    return path


SIX = np.arange(6, dtype=np.float32)
FLOATS = Storage("FloatStorage", "0", 6)
RECORDS = {"data/0": SIX.tobytes()}
