"""Files of weights: PyTorch's two formats, safetensors, what is noted in them; and what other files are said to be."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from torch_files import SIX, Storage, program, save_legacy, tensor

from cmgan_jax.errors import UserError
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.interop.weights_file import read_weights_file, write_weights_file
from cmgan_jax.recipes import make_config, to_dict

STATE = {"a.weight": SIX.reshape(2, 3), "a.count": np.array(7)}


# --- the legacy format -------------------------------------------------------------------------------------


def legacy(kind: str, key: str, count: int) -> Storage:
    # Its persistent ids have six parts; the last is None for a storage of its own.
    return Storage(kind, key, count, (None,))


def legacy_content() -> dict[str, Any]:
    floats, counts = legacy("FloatStorage", "9412", 6), legacy("LongStorage", "77", 2)
    return {
        "epoch": 3,
        "state_dict": {
            "transposed": tensor(floats, (3, 2), (1, 3)),
            "shared": tensor(floats, (2,), (1,), offset=4),
            "counts": tensor(counts, (2,), (1,)),
        },
    }


STORAGES = {"9412": SIX, "77": np.array([5, -6])}


def test_the_legacy_format_is_read(tmp_path: Path) -> None:
    read = read_weights_file(save_legacy(tmp_path / "old.pt", legacy_content(), STORAGES))
    assert (read.format, read.note, read.config, read.content["epoch"]) == ("pt", {}, None, 3)
    expected = {"transposed": SIX.reshape(2, 3).T, "shared": SIX[4:], "counts": np.array([5, -6])}
    for name, array in expected.items():
        np.testing.assert_array_equal(read.content["state_dict"][name], array, strict=True)


def test_a_damaged_legacy_file_is_a_plain_message(tmp_path: Path) -> None:
    path = save_legacy(tmp_path / "old.pt", legacy_content(), STORAGES)
    whole = path.read_bytes()
    for length in range(15, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="re-save"):
            read_torch_file(path)
    for listed in ([], ["77", "9412", "5"], ["9412", "77"]):
        with pytest.raises(UserError, match="storage"):
            read_torch_file(save_legacy(path, legacy_content(), STORAGES, listed))
    huge = {"a": tensor(legacy("FloatStorage", "9412", 2**40), (1,), (1,))}
    with pytest.raises(UserError, match="more bytes than the file"):
        read_torch_file(save_legacy(path, huge, {"9412": SIX}))


# --- safetensors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_, ml_dtypes.bfloat16])
def test_safetensors_are_read(tmp_path: Path, kind: Any) -> None:
    """As the format's own library wrote them."""
    array = np.array([[1, 0], [1, 1]]).astype(kind)
    (tmp_path / "x").write_bytes(save_safetensors({"t": array, "s": np.array(array[0, 0])}, {"format": "pt"}))
    read = read_weights_file(tmp_path / "x")
    assert (read.format, read.note) == ("safetensors", {})
    expected = array.astype(np.float32) if kind is ml_dtypes.bfloat16 else array
    np.testing.assert_array_equal(read.content["t"], expected, strict=True)
    assert read.content["s"].shape == ()


def test_damaged_safetensors_are_a_plain_message(tmp_path: Path) -> None:
    whole = save_safetensors(STATE)
    path = tmp_path / "x.safetensors"
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"x\.safetensors"):
            read_weights_file(path)
    path.write_bytes(save_safetensors({"a": np.ones(2, np.complex64)}))
    with pytest.raises(UserError, match="its tensor a is of C64"):
        read_weights_file(path)


# --- what goes with the tensors ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_note_comes_back_and_other_readers_pass_over_it(tmp_path: Path, name: str) -> None:
    config = make_config("recommended", "study")
    note = {"config": to_dict(config), "step": 3}
    for path in (tmp_path / name, tmp_path / f"again.{name}"):
        write_weights_file(path, STATE, note)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again.{name}").read_bytes()
    read = read_weights_file(tmp_path / name)
    assert read.config == config
    assert read.note == json.loads(json.dumps(note))
    if name.endswith("safetensors"):
        theirs = load_safetensors((tmp_path / name).read_bytes())
    else:
        # torch.load looks records up by name: what it unpickles must hold the tensors alone.
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert b"config" not in archive.read("archive/data.pkl")
        theirs = read_torch_file(tmp_path / name)
    for found in (theirs, read.content):
        assert found.keys() == STATE.keys()
        for key, array in STATE.items():
            np.testing.assert_array_equal(found[key], array, strict=True)


@pytest.mark.parametrize("text", ["{", "[]", '{"config": {"colour": 1}}', '{"config": 3}', "[" * 100_000])
def test_a_damaged_note_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_bytes(save_safetensors(STATE, {"cmgan_jax": text}))
    with pytest.raises(UserError, match="noted in the file cannot be read"):
        read_weights_file(tmp_path / "x")


# --- other files -------------------------------------------------------------------------------------------


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, SIX)
    return buffer.getvalue()


def archive_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 7000000\n"
# The first fields of an ONNX model: ir_version 8, producer_name "pytorch".
ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.pt", LFS, r"a git-lfs pointer, which only stands for a file of 7,000,000 bytes; fetch that: git lfs pull"),
        ("model.safetensors", LFS, "git-lfs pointer"),
        ("x.pt", b"../.git/annex/objects/ab/cd/x", "git annex get"),
        ("x.pt", b"", "it is empty"),
        ("x.safetensors", b"", "it is empty"),
        ("x.pt", bytes(9000), "nothing but zeros"),
        ("x.pt", b"\n<!DOCTYPE html><html>", "a web page.*download it again"),
        ("x.pt", b"<html><body>Too many requests", "a web page"),
        ("x.pt", b'{"error": "not found"}', "it is JSON"),
        ("model.safetensors.index.json", b'{"weight_map": {}}', "a model that is in several"),
        ("x.pt", npy(), "an array of NumPy"),
        ("x.npz", archive_of("a.npy", "b.npy"), "archive of NumPy arrays"),
        ("x.onnx", b"\x08\x07\x3a", "an ONNX model"),
        ("x.pt", ONNX, "an ONNX model"),
        ("saved_model.pb", b"\x08\x01\x12\x00", "a model of TensorFlow"),
        ("x.data-00000-of-00001", b"\x01\x02\x03", "a model of TensorFlow"),
        ("x.h5", b"\x89HDF\r\n\x1a\n\x00", "HDF5"),
        ("x.keras", archive_of("config.json", "model.weights.h5"), "Keras"),
        ("x.tflite", b"\x20\0\0\0TFL3", "TensorFlow Lite"),
        ("x.pt.gz", gzip.compress(b"x", mtime=0), "compressed with gzip; unpack it"),
        ("x.tar", tar(), "a tar archive; unpack it"),
        ("x.zip", archive_of("best_ckpt/", "best_ckpt/ckpt"), r"a zip archive around best_ckpt/ckpt; unpack it"),
        ("x.zip", archive_of("about.json", "program-1-16000.jax"), "of cmgan export stablehlo"),
        ("x.zip", archive_of("letter.txt"), r"torch\.save did not write it"),
        ("x.pkl", program({"a": 1}), "a pickle that torch.save did not write, and nothing in it is executed"),
        ("x.wav", b"RIFF\x00\x00\x00\x00WAVE", "a recording"),
        ("x.pt", "é".encode() * 300, "it is text that begins with 'é"),
        ("x.pt", struct.pack("<8d", *range(1, 9)), "no file that torch.save or safetensors wrote"),
    ],
)
def test_what_a_file_is_is_said(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_weights_file(tmp_path / name)
    assert name in str(error.value)
    assert len(str(error.value)) < 400
