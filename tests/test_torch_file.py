"""The checkpoint reader: honest files are read exactly; damaged and foreign ones give a plain message."""

import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import FLOATS, RECORDS, SIX, Call, Storage, named, program, save, tensor

from cmgan_jax.errors import UserError
from cmgan_jax.interop.torch_file import read_torch_file


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
        (b"RIFF....WAVE", "it is a recording"),
        (b"PK\x03\x04", "damaged"),
        # What torch.save(..., _use_new_zipfile_serialization=False) begins with: its magic number, pickled.
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "legacy.*cut short.*re-save"),
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


def test_records_that_overlap_are_refused(tmp_path: Path) -> None:
    # data/1 lies within data/0, so that a few such records could claim many times the file.
    inner, payload = zipfile.ZipInfo("model/data/1"), bytes(8000)
    inner.file_size = inner.compress_size = len(payload)
    inner.CRC = zlib.crc32(payload)
    outer = inner.FileHeader() + payload + bytes(-len(inner.FileHeader()) % 4)
    storages = [Storage("FloatStorage", "0", len(outer) // 4), Storage("FloatStorage", "1", len(payload) // 4)]
    path = save(tmp_path / "a.pt", program({"x": [tensor(storage, (1,), (1,)) for storage in storages]}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data/0", outer)
        inner.header_offset = archive.infolist()[-1].header_offset + 30 + len("model/data/0")
        archive.filelist.append(inner)
    with pytest.raises(UserError, match=r"claim more bytes|Overlapped"):  # newer Pythons look themselves
        read_torch_file(path)


def test_unknown_zip_features_are_refused(tmp_path: Path) -> None:
    path = honest(tmp_path / "a.pt")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 99  # "version needed to extract" of the first record: 9.9
    path.write_bytes(data)
    with pytest.raises(UserError, match="zip"):
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


def test_published_files(shared: Path) -> None:
    # Parameter counts: shared/PERFORMANCE.md. The rest of each file is BatchNorm's and the spectral norm's.
    for name, count in (("generator", 1_834_833), ("discriminator", 181_650)):
        content = read_torch_file(shared / "reference" / f"{name}.pt")
        buffers = ("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v")
        assert sum(array.size for key, array in content.items() if not key.endswith(buffers)) == count
