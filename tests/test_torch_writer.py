"""The checkpoint writer: read back by our reader, and by torch itself where there is one.

`CMGAN_TORCH_PYTHON` names a python that has torch; otherwise the test of both against torch looks for it beside us.
"""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cmgan_jax.errors import UserError
from cmgan_jax.interop import torch_writer
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.interop.torch_pickle import STORAGES
from cmgan_jax.interop.torch_writer import write_torch_file

SIX = np.arange(6, dtype=np.float32)


def test_written_files_are_read_back(tmp_path: Path) -> None:
    for kind, dtype in STORAGES.items():
        array = np.array([1, 0, 1]).astype(dtype)
        widened = np.dtype(np.float32) if kind == "torch.BFloat16Storage" else dtype
        state_dict = {"x": array, "é": array[:2].reshape(2, 1), "scalar": array[0], "empty": array[:0]}
        write_torch_file(tmp_path / "a.pt", state_dict)
        read = read_torch_file(tmp_path / "a.pt")
        assert list(read) == list(state_dict)
        for key, expected in state_dict.items():
            np.testing.assert_array_equal(read[key], np.asarray(expected).astype(widened), strict=True)


def test_written_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_torch_file(tmp_path / "a.pt", {"x": table})
    write_torch_file(tmp_path / "b.pt", {"x": np.asfortranarray(table.astype(">f4"))})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_numbers_are_aligned_for_memory_maps(tmp_path: Path) -> None:
    # 64 bytes, as torch.save aligns them; the numbers are found in the file by their content.
    write_torch_file(tmp_path / "a.pt", {"a": SIX, "b": SIX + 100, "c": SIX + 200})
    data = (tmp_path / "a.pt").read_bytes()
    assert [data.index((SIX + shift).tobytes()) % 64 for shift in (0, 100, 200)] == [0, 0, 0]


def test_a_write_is_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    write_torch_file(path, {"x": SIX})
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch_writer.os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*a\.pt: No space left"):
        write_torch_file(path, {"x": SIX[:2]})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.pt"]
    with pytest.raises(UserError, match="cannot write"):
        write_torch_file(tmp_path / "absent" / "a.pt", {"x": SIX})
    with pytest.raises(ValueError, match="x is of complex64"):
        write_torch_file(path, {"x": SIX.astype(np.complex64)})


TORCH_CHECK = """
import sys, numpy, torch
theirs, ours = torch.load(sys.argv[1], weights_only=True), torch.load(sys.argv[2], weights_only=True, mmap=True)
assert list(theirs) == list(ours) and all(torch.equal(theirs[k], ours[k]) for k in theirs)
assert all(theirs[k].dtype == ours[k].dtype and theirs[k].shape == ours[k].shape for k in theirs)
x = torch.arange(12.0).reshape(3, 4)
odd = {"t": x.T, "cut": x[1:, 2], "b": x.bfloat16(), "e": torch.empty(0, 3), "s": torch.tensor(7)}
odd["p"] = torch.nn.Parameter(x)
torch.save({"epoch": 2, "state_dict": odd}, sys.argv[3])
numpy.savez(sys.argv[4], **{k: v.detach().float().numpy() for k, v in odd.items()})
torch.save(torch.nn.Linear(3, 2), sys.argv[5])
"""


@pytest.mark.subprocess
def test_against_torch_itself(tmp_path: Path, shared: Path) -> None:
    python = os.environ.get("CMGAN_TORCH_PYTHON") or (sys.executable if importlib.util.find_spec("torch") else None)
    if python is None:
        pytest.skip("no torch here; CMGAN_TORCH_PYTHON may name a python that has it")
    theirs, ours = shared / "reference" / "generator.pt", tmp_path / "ours.pt"
    write_torch_file(ours, read_torch_file(theirs))
    paths = [tmp_path / name for name in ("odd.pt", "odd.npz", "module.pt")]
    subprocess.run([python, "-c", TORCH_CHECK, theirs, ours, *paths], check=True, timeout=120)
    content, expected = read_torch_file(paths[0]), np.load(paths[1])
    assert content["epoch"] == 2
    for name in expected.files:
        np.testing.assert_array_equal(content["state_dict"][name], expected[name])
    assert content["state_dict"]["s"].dtype == np.int64
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read_torch_file(paths[2])
