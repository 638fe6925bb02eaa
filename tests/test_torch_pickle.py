"""The pickle inside a checkpoint: whatever is not a tensor or a plain container is refused, and nothing runs."""

import io
import os
import pickle
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import FLOATS, RECORDS, TORCH, Call, Storage, named, program, save, tensor

from cmgan_jax.errors import UserError
from cmgan_jax.interop.torch_file import read_torch_file

HUGE = 2**62
# What the refusal must say, and the content.
LIES: dict[str, tuple[str, Callable[[], Any]]] = {
    "offset beyond": ("beyond its storage", lambda: tensor(FLOATS, (2,), (1,), 5)),
    "stride beyond": ("beyond its storage", lambda: tensor(FLOATS, (2, 3), (4, 1))),
    "shape beyond": ("beyond its storage", lambda: tensor(FLOATS, (7,), (1,))),
    "overflowing": ("beyond its storage", lambda: tensor(FLOATS, (HUGE, 4), (HUGE, 1))),
    "wrapping": ("beyond its storage", lambda: tensor(FLOATS, (3,), (2**63 - 1,))),
    "negative offset": ("not sizes", lambda: tensor(FLOATS, (2,), (1,), -1)),
    "negative stride": ("not sizes", lambda: tensor(FLOATS, (2,), (-1,), 5)),
    "negative size": ("not sizes", lambda: tensor(FLOATS, (-2, -3), (3, 1))),
    "fractional size": ("not sizes", lambda: tensor(FLOATS, (2.0,), (1,))),
    "ranks differ": ("not sizes", lambda: tensor(FLOATS, (2, 3), (1,))),
    "too many axes": ("not sizes", lambda: tensor(FLOATS, (1,) * 200, (1,) * 200)),
    "expanded bomb": ("expanded", lambda: tensor(FLOATS, (HUGE,), (0,))),
    "empty bomb": ("damaged", lambda: tensor(FLOATS, (0, HUGE, HUGE), (1, 1, 1))),
    "offset of an empty one": ("beyond its storage", lambda: tensor(FLOATS, (0,), (1,), HUGE)),
    "count too large": ("has 24 bytes", lambda: tensor(Storage("FloatStorage", "0", HUGE), (2,), (1,))),
    "count too small": ("has 24 bytes", lambda: tensor(Storage("FloatStorage", "0", 5), (2,), (1,))),
    "another kind": ("has 24 bytes", lambda: tensor(Storage("DoubleStorage", "0", 6), (2,), (1,))),
    "two kinds": ("two ways", lambda: [tensor(FLOATS, (6,), (1,)), tensor(Storage("IntStorage", "0", 6), (6,), (1,))]),
    "missing record": ("data/1 is missing", lambda: tensor(Storage("FloatStorage", "1", 6), (2,), (1,))),
    "a path for a key": ("no number", lambda: tensor(Storage("FloatStorage", "../../etc/passwd", 6), (2,), (1,))),
    "no storage": ("not sizes", lambda: tensor("0", (2,), (1,))),
    "a tensor for a storage": ("not sizes", lambda: tensor(tensor(FLOATS, (6,), (1,)), (6,), (1,))),
    "a bare storage": ("bare storage", lambda: FLOATS),
    "a class": ("bare storage", lambda: vars(TORCH)["FloatStorage"]),
    "complex numbers": ("ComplexFloatStorage", lambda: tensor(Storage("ComplexFloatStorage", "0", 3), (3,), (1,))),
    "a tuple for a key": ("tuple for a key", lambda: {(1, 2): 3}),
    "bytes": ("_codecs", lambda: b"abc"),
    "a set": ("set", lambda: {1, 2}),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(tmp_path: Path, lie: str) -> None:
    reason, content = LIES[lie]
    path = save(tmp_path / "lie.pt", program({"x": content()}), RECORDS)
    with pytest.raises(UserError, match=rf"lie\.pt .*{reason}"):
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


# How torch.save wrote before 1.6: a magic number, a version and a description, each a pickle, then the objects.
LEGACY = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))


@pytest.mark.parametrize(
    ("head", "tail", "words"),
    [
        (LEGACY, pickle.dumps([], 2), "only tensors and plain containers|which no state dict needs|torch.save never"),
        (LEGACY, b"", "legacy format.*re-save"),
        (b"", b"", "it is a pickle that torch.save did not write|no file that torch.save|it is text"),
    ],
    ids=["legacy", "legacy, cut short", "bare pickle"],
)
@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_executed_in_the_legacy_format(
    tmp_path: Path, name: str, head: bytes, tail: bytes, words: str
) -> None:
    target, path = tmp_path / "executed", tmp_path / "a.pt"
    path.write_bytes(head + ATTACKS[name][0](str(target)) + tail)
    with pytest.raises(UserError, match=rf"a\.pt .*({words})"):
        read_torch_file(path)
    assert not target.exists()


def test_the_attacks_are_real(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    for name in ("os.system", "protocol 4", "eval", "INST"):
        pickle.loads(ATTACKS[name][0](str(target)))  # noqa: S301 - proves that the test above could fail
        target.unlink()
    with io.BytesIO(LEGACY + ATTACKS["os.system"][0](str(target))) as legacy:
        for _ in range(4):
            pickle.load(legacy)  # noqa: S301 - likewise
    assert target.exists()


@pytest.mark.parametrize("name", ["_rebuild_tensor_v2_", "_rebuild_qtensor"])
def test_lookalikes_of_torch_are_refused(tmp_path: Path, name: str) -> None:
    data = program({"x": Call(named(name), (FLOATS, 0, (6,), (1,), False, OrderedDict()))})
    with pytest.raises(UserError, match=rf"torch\._utils\.{name}'"):
        read_torch_file(save(tmp_path / "a.pt", data, RECORDS))


def test_attributes_cannot_be_set(tmp_path: Path) -> None:
    for data in (b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb.", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b."):
        with pytest.raises(UserError, match="its pickle"):
            read_torch_file(save(tmp_path / "a.pt", data))


def laughs() -> bytes:
    item: Any = [1]
    for _ in range(30):
        item = [item, item]
    return program({"x": item})


def wide() -> bytes:
    row = [1] * 2000
    return program({"x": [row] * 2000})


PROGRAMS: dict[str, Callable[[], bytes]] = {
    "deep lists": lambda: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": lambda: b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "deep tuple as a key": lambda: b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    "a list in itself": lambda: b"\x80\x02}X\x01\x00\x00\x00x]q\x00h\x00as.",
    "a tree of shared lists": laughs,
    "a wide tree": wide,
    "a huge memo": lambda: b"\x80\x02}r\xff\xff\xff\xff.",
    "too few for a tuple": lambda: b"\x80\x02}\x86.",
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
    reason = {"too few for a tuple": "too few", "a wide tree": "too often"}.get(name, "a.pt")
    with pytest.raises(UserError, match=reason):
        read_torch_file(path)


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
