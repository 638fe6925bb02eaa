"""The checkpoint reader: honest files are read exactly, dishonest ones are refused and run nothing.

Files are made by the standard pickle with stand-ins for torch's names, so they do not depend on the writer.
"""

import io
import os
import pickle
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgan_jax.errors import UserError
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.interop.torch_pickle import STORAGES


@dataclass(frozen=True)
class Storage:
    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class Call:
    """An object whose pickle calls a global."""

    function: Any
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.fixture(autouse=True)
def torch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules named as torch's, so that the standard pickle writes the names that torch.save writes."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    for name in [kind.removeprefix("torch.") for kind in STORAGES] + ["ComplexFloatStorage"]:
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_tensor_v2_", "_rebuild_qtensor"):
        function: Any = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)


def named(name: str) -> Any:
    return getattr(sys.modules["torch._utils"], name)


def tensor(storage: Any, shape: Any, strides: Any, offset: Any = 0) -> Call:
    return Call(named("_rebuild_tensor_v2"), (storage, offset, shape, strides, False, OrderedDict()))


def program(content: Any, protocol: int = 2) -> bytes:
    class Saver(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if not isinstance(obj, Storage):
                return None
            return ("storage", getattr(sys.modules["torch"], obj.kind), obj.key, "cpu", obj.count)

    buffer = io.BytesIO()
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


SIX = np.arange(6, dtype=np.float32)
FLOATS = Storage("FloatStorage", "0", 6)
RECORDS = {"data/0": SIX.tobytes()}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_layouts(tmp_path: Path, protocol: int) -> None:
    # Expected values: NumPy's own views of the six numbers.
    content = OrderedDict(
        plain=tensor(FLOATS, (2, 3), (3, 1)),
        transposed=tensor(FLOATS, (3, 2), (1, 3)),
        part=tensor(FLOATS, (2,), (2,), offset=1),
        scalar=tensor(FLOATS, (), (), offset=5),
        empty=tensor(FLOATS, (0, 4), (4, 1)),
        expanded=tensor(FLOATS, (3, 2), (0, 1)),
        odd_stride=tensor(FLOATS, (1, 6), (2**62, 1)),
        parameter=Call(named("_rebuild_parameter"), (tensor(FLOATS, (6,), (1,)), True, OrderedDict())),
    )
    read = read_torch_file(save(tmp_path / "a.pt", program(content, protocol), RECORDS))
    table = SIX.reshape(2, 3)
    expected = {
        "plain": table,
        "transposed": table.T,
        "part": SIX[1:4:2],
        "scalar": SIX[5],
        "empty": np.zeros((0, 4), np.float32),
        "expanded": np.broadcast_to(SIX[:2], (3, 2)),
        "odd_stride": SIX[None],
        "parameter": SIX,
    }
    assert list(read) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(read[name], array, strict=True, err_msg=name)
        assert read[name].flags.c_contiguous
        assert read[name].flags.owndata


# Bit patterns by hand, from IEEE 754: 1, -2 and the smallest above 1; two's complement for integers.
KINDS = [
    ("FloatStorage", "3f800000 c0000000 3f800001", np.array([1, -2, 1 + 2**-23], np.float32)),
    ("DoubleStorage", "3ff0000000000000 c000000000000000 3ff0000000000001", np.array([1, -2, 1 + 2**-52])),
    ("HalfStorage", "3c00 c000 3c01", np.array([1, -2, 1 + 2**-10], np.float16)),
    ("BFloat16Storage", "3f80 c000 3f81", np.array([1, -2, 1 + 2**-7], np.float32)),
    ("LongStorage", "0000000000000001 fffffffffffffffe 0000000100000000", np.array([1, -2, 2**32])),
    ("IntStorage", "00000001 fffffffe 00010000", np.array([1, -2, 65536], np.int32)),
    ("ShortStorage", "0001 fffe 0100", np.array([1, -2, 256], np.int16)),
    ("CharStorage", "01 fe 7f", np.array([1, -2, 127], np.int8)),
    ("ByteStorage", "01 fe 7f", np.array([1, 254, 127], np.uint8)),
    ("BoolStorage", "01 00 01", np.array([True, False, True])),
]


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(("kind", "bits", "expected"), KINDS, ids=[kind for kind, *_ in KINDS])
def test_kinds_and_byte_orders(tmp_path: Path, order: str, kind: str, bits: str, expected: np.ndarray) -> None:
    words = [bytes.fromhex(word) for word in bits.split()]
    record = b"".join(words if order == "big" else [word[::-1] for word in words])
    data = program({"x": tensor(Storage(kind, "7", 3), (3,), (1,))})
    path = save(tmp_path / "a.pt", data, {"data/7": record}, order.encode())
    np.testing.assert_array_equal(read_torch_file(path)["x"], expected, strict=True)


def test_containers(tmp_path: Path) -> None:
    content = {
        "epoch": 3,
        "best": 2.5,
        "name": "né",
        "flags": (True, False, None),
        "large": 2**40,
        "optimiser": {"state": {0: {"step": [1, -2]}}, "groups": [{"betas": (0.9, 0.999)}]},
    }
    assert read_torch_file(save(tmp_path / "a.pt", program(content))) == content


def test_notes_of_a_state_dict_are_dropped(tmp_path: Path) -> None:
    class Noted(OrderedDict):
        def __reduce__(self) -> Any:
            return OrderedDict, (), {"_metadata": OrderedDict({"": {"version": 1}})}, None, iter(self.items())

    data = program(Noted(x=tensor(FLOATS, (6,), (1,))))
    assert list(read_torch_file(save(tmp_path / "a.pt", data, RECORDS))) == ["x"]


HUGE = 2**62
LIES = {
    "offset beyond": lambda: tensor(FLOATS, (2,), (1,), 5),
    "stride beyond": lambda: tensor(FLOATS, (2, 3), (4, 1)),
    "shape beyond": lambda: tensor(FLOATS, (7,), (1,)),
    "overflowing": lambda: tensor(FLOATS, (HUGE, 4), (HUGE, 1)),
    "wrapping": lambda: tensor(FLOATS, (3,), (2**63 - 1,)),
    "negative offset": lambda: tensor(FLOATS, (2,), (1,), -1),
    "negative stride": lambda: tensor(FLOATS, (2,), (-1,), 5),
    "negative size": lambda: tensor(FLOATS, (-2, -3), (3, 1)),
    "fractional size": lambda: tensor(FLOATS, (2.0,), (1,)),
    "ranks differ": lambda: tensor(FLOATS, (2, 3), (1,)),
    "too many axes": lambda: tensor(FLOATS, (1,) * 200, (1,) * 200),
    "expanded bomb": lambda: tensor(FLOATS, (HUGE,), (0,)),
    "empty bomb": lambda: tensor(FLOATS, (0, HUGE, HUGE), (1, 1, 1)),
    "offset of an empty one": lambda: tensor(FLOATS, (0,), (1,), HUGE),
    "count too large": lambda: tensor(Storage("FloatStorage", "0", HUGE), (2,), (1,)),
    "count too small": lambda: tensor(Storage("FloatStorage", "0", 5), (2,), (1,)),
    "another kind": lambda: tensor(Storage("DoubleStorage", "0", 6), (2,), (1,)),
    "two kinds": lambda: [tensor(FLOATS, (6,), (1,)), tensor(Storage("IntStorage", "0", 6), (6,), (1,))],
    "missing record": lambda: tensor(Storage("FloatStorage", "1", 6), (2,), (1,)),
    "a path for a key": lambda: tensor(Storage("FloatStorage", "../../etc/passwd", 6), (2,), (1,)),
    "no storage": lambda: tensor("0", (2,), (1,)),
    "a tensor for a storage": lambda: tensor(tensor(FLOATS, (6,), (1,)), (6,), (1,)),
    "a bare storage": lambda: FLOATS,
    "a class": lambda: sys.modules["torch"].FloatStorage,  # type: ignore[attr-defined]
    "complex numbers": lambda: tensor(Storage("ComplexFloatStorage", "0", 3), (3,), (1,)),
    "a tuple for a key": lambda: {(1, 2): 3},
    "bytes": lambda: b"abc",
    "a set": lambda: {1, 2},
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(tmp_path: Path, lie: str) -> None:
    path = save(tmp_path / "lie.pt", program({"x": LIES[lie]()}), RECORDS)
    with pytest.raises(UserError, match=r"lie\.pt"):
        read_torch_file(path)


def test_numbers_beyond_the_file_are_refused_also_in_small_portions(tmp_path: Path) -> None:
    # Each is a sixteenth of the limit (16 bytes of array for a byte of file); forty of them are beyond it.
    content = {str(i): tensor(FLOATS, (2000,), (0,)) for i in range(40)}
    with pytest.raises(UserError, match="expanded"):
        read_torch_file(save(tmp_path / "a.pt", program(content), RECORDS))


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


# Each would create the file `target`; beside it the global that the refusal must name.
ATTACKS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "os.system": (lambda target: program({"x": Call(os.system, (f"touch {target}",))}), f"{os.name}.system"),
    "protocol 4": (lambda target: program({"x": Call(os.system, (f"touch {target}",))}, 4), f"{os.name}.system"),
    "eval": (lambda target: program({"x": Call(eval, (f"open({target!r}, 'w').close()",))}), "eval"),
    "exec in a tensor": (lambda target: program(tensor(Call(exec, (f"open({target!r}, 'w')",)), (), ())), "exec"),
    "subprocess": (lambda target: program(Call(subprocess.Popen, (["touch", target],)), 4), "subprocess.Popen"),
    "INST": (lambda target: b"(" + text(f"touch {target}") + b"ios\nsystem\n.", "os.system"),
    "OBJ": (lambda target: b"(cos\nsystem\n" + text(f"touch {target}") + b"o.", "os.system"),
    "under torch's name": (
        lambda target: b"\x80\x02ctorch._utils\nos.system\n(" + text(f"touch {target}") + b"tR.",
        "torch._utils.os.system",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_executed(tmp_path: Path, name: str) -> None:
    attack, wanted = ATTACKS[name]
    target = tmp_path / "executed"
    with pytest.raises(UserError) as refusal:
        read_torch_file(save(tmp_path / "a.pt", attack(str(target))))
    assert wanted in str(refusal.value)
    assert not target.exists()


def test_the_attacks_are_real(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    for name in ("os.system", "protocol 4", "eval", "INST"):
        pickle.loads(ATTACKS[name][0](str(target)))  # noqa: S301 - proves that the test above could fail
        target.unlink()


@pytest.mark.parametrize("name", ["_rebuild_tensor_v2_", "_rebuild_qtensor"])
def test_lookalikes_of_torch_are_refused(tmp_path: Path, name: str) -> None:
    data = program({"x": Call(named(name), (FLOATS, 0, (6,), (1,), False, OrderedDict()))})
    with pytest.raises(UserError, match=rf"torch\._utils\.{name}'"):
        read_torch_file(save(tmp_path / "a.pt", data, RECORDS))


def test_attributes_cannot_be_set(tmp_path: Path) -> None:
    for data in (b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb.", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b."):
        with pytest.raises(UserError, match=r"data\.pkl"):
            read_torch_file(save(tmp_path / "a.pt", data))


def laughs() -> bytes:
    item: Any = [1]
    for _ in range(30):
        item = [item, item]
    return program({"x": item})


PROGRAMS: dict[str, Callable[[], bytes]] = {
    "deep lists": lambda: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": lambda: b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "deep tuple as a key": lambda: b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    "a list in itself": lambda: b"\x80\x02}X\x01\x00\x00\x00x]q\x00h\x00as.",
    "a tree of shared lists": laughs,
    "a huge memo": lambda: b"\x80\x02}r\xff\xff\xff\xff.",
    "an empty stack": lambda: b"\x80\x02.",
    "two results": lambda: b"\x80\x02}}.",
    "no end": lambda: b"\x80\x02}",
    "a text of 4 GB": lambda: b"\x80\x02X\xff\xff\xff\xffab.",
    "a text of 2^64": lambda: b"\x80\x04\x8d" + b"\xff" * 8 + b"ab.",
    "an unknown opcode": lambda: b"\x80\x02\xff.",
    "no mark": lambda: b"\x80\x02}u.",
    "a key without value": lambda: b"\x80\x02}(K\x01u.",
    "nothing": lambda: b"",
    "a list at the top": lambda: program([1]),
    "an old text opcode": lambda: b"(dp0\nS'a'\nI1\ns.",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_damaged_programs_are_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "a.pt", PROGRAMS[name]())
    if name == "a huge memo":  # harmless here: the memo is a dict
        assert read_torch_file(path) == {}
        return
    with pytest.raises(UserError, match=r"a\.pt"):
        read_torch_file(path)


def honest(path: Path) -> Path:
    return save(path, program({"x": tensor(FLOATS, (6,), (1,))}), RECORDS)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(UserError, match="No such file"):
        read_torch_file(path)
    with pytest.raises(UserError, match="directory"):
        read_torch_file(tmp_path)
    for content, reason in (
        (b"", "empty"),
        (b"RIFF....WAVE", "not a zip file"),
        (b"PK\x03\x04", "damaged"),
        # What torch.save(..., _use_new_zipfile_serialization=False) begins with: its magic number, pickled.
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "legacy.*re-save"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=reason):
            read_torch_file(path)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "a.pt", program({"x": tensor(FLOATS, (6,), (1,))})
    save(path, data, RECORDS, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="compressed"):
        read_torch_file(path)
    save(path, data, RECORDS, order=b"middle")
    with pytest.raises(UserError, match="byte order"):
        read_torch_file(path)
    save(path, data, {"constants.pkl": b""} | RECORDS)
    with pytest.raises(UserError, match="TorchScript"):
        read_torch_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"")
    with pytest.raises(UserError, match=r"torch\.save did not write it"):
        read_torch_file(path)
    save(path, data, RECORDS)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model/data/0", SIX[::-1].tobytes())
    with pytest.raises(UserError, match="same name"):
        read_torch_file(path)


def test_damage_anywhere_is_a_plain_message_or_harmless(tmp_path: Path) -> None:
    path = honest(tmp_path / "a.pt")
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            read_torch_file(path)
    refused = 0
    for _ in range(600):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_torch_file(path)
        except UserError:
            refused += 1
    # The rest hit dates, attributes and the like, which mean nothing.
    assert refused > 300


def test_damaged_programs_raise_nothing_else(tmp_path: Path) -> None:
    data = program({"x": [tensor(FLOATS, (2, 3), (3, 1)), (1, 2.5, "a", None)]}, 4)
    random = np.random.default_rng(1)
    for _ in range(600):
        damaged = bytearray(data)
        for place in random.integers(len(data), size=random.integers(1, 4)):
            damaged[place] = int(random.integers(256))
        path = save(tmp_path / "a.pt", bytes(damaged), RECORDS)
        try:
            read_torch_file(path)
        except UserError:
            continue


def test_published_files(shared: Path) -> None:
    # Parameter counts: shared/PERFORMANCE.md. The rest of each file is BatchNorm's and the spectral norm's.
    for name, count in (("generator", 1_834_833), ("discriminator", 181_650)):
        content = read_torch_file(shared / "reference" / f"{name}.pt")
        buffers = ("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v")
        assert sum(array.size for key, array in content.items() if not key.endswith(buffers)) == count
