"""What a run writes down: whole files, records in order, nothing twice after a resume."""

import errno
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter

from cmgan_jax.runs.records import read_kind
from cmgan_jax.system.outputs import plain, write_json
from cmgan_jax.training.records import METRICS, Recorder


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def write(folder: Path, *steps: int, since: int = 0) -> None:
    recorder = Recorder(folder, since)
    for step in steps:
        recorder.record("step", step, {"loss": step / 2})
    recorder.close()


def events(folder: Path) -> list[Event]:
    """Events of all files: length, its checksum, the event, its checksum."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            size = int.from_bytes(content[at : at + 8], "little")
            found.append(Event.FromString(content[at + 12 : at + 12 + size]))
            at += 16 + size
    return found


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("pesq", {"epoch/train/pesq": 2.0, "epoch/validation/pesq": 2.5}),
        ("stoi", {"epoch/train/stoi": 2.0, "epoch/validation/stoi": 2.5, "epoch/validation/pesq": 2.5}),
        # A curve of that name is there already.
        ("loss", {"epoch/train/loss": 2.0, "epoch/validation/score": 2.5, "epoch/validation/pesq": 2.5}),
    ],
)
def test_curves_have_the_name_of_the_metric(tmp_path: Path, metric: str, expected: dict[str, float]) -> None:
    recorder = Recorder(tmp_path, 0, metric)
    recorder.record("epoch", 3, {"train": {"score": 2.0}, "validation": {"loss": 0.5, "score": 2.5, "pesq": 2.5}})
    recorder.close()
    points = {value.tag: value.simple_value for event in events(tmp_path) for value in event.summary.value}
    assert points == expected | {"epoch/validation/loss": 0.5}
    (record,) = read_kind(tmp_path)
    assert record["validation"]["score"] == 2.5


def test_a_record_is_a_line_with_its_kind(tmp_path: Path) -> None:
    """What is not finite becomes null, also in nested numbers: bare NaN is not JSON."""
    recorder = Recorder(tmp_path, 0)
    numbers = {"loss": 0.5, "pesq": math.nan, "failures": {"timeout": 2, "share": math.inf}, "on": True, "list": (1,)}
    recorder.record("step", 3, numbers)
    # On disk before it is closed: a run may be killed at any time.
    expected = {"kind": "step", "step": 3, "loss": 0.5, "pesq": None, "on": True, "list": [1]}
    assert lines(tmp_path) == [expected | {"failures": {"timeout": 2, "share": None}}]
    recorder.record("epoch", 4, {"pesq": 2.5})
    recorder.close()
    assert [record["kind"] for record in read_kind(tmp_path)] == ["step", "epoch"]
    assert read_kind(tmp_path, "epoch") == [{"kind": "epoch", "step": 4, "pesq": 2.5}]
    curves = {(v.tag, e.step): v.simple_value for e in events(tmp_path) for v in e.summary.value}
    assert curves == {("step/loss", 3): 0.5, ("step/failures/timeout", 3): 2, ("epoch/pesq", 4): 2.5}


@pytest.mark.parametrize("tail", ["", '{"kind": "step", "st', '{"kind": "step", "step": 7}', "null\n"])
def test_a_resume_drops_what_comes_again(tail: str, tmp_path: Path) -> None:
    """Later records and a torn last line go; also one that lacks nothing but the end of its line."""
    write(tmp_path, 1, 2, 3, 4)
    with (tmp_path / METRICS).open("a") as file:
        file.write(tail)
    assert [record["step"] for record in read_kind(tmp_path)][:4] == [1, 2, 3, 4]
    write(tmp_path, 3, 4, since=2)
    assert [record["step"] for record in lines(tmp_path)] == [1, 2, 3, 4]
    resumed = Recorder(tmp_path, 3)
    resumed.record("step", 4, {"loss": math.inf})
    resumed.close()
    assert resumed.records == lines(tmp_path)
    assert [record["step"] for record in resumed.records] == [1, 2, 3, 4]
    assert not list(tmp_path.glob("*.part"))


def test_a_line_without_its_end_does_not_swallow_the_next(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"kind": "step", "step": 1}\n{"kind": "step", "step": 2}')
    write(tmp_path, 3, since=2)
    assert [record["step"] for record in lines(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    "torn", [b"\x00" * 40, b"\xff\xfe\x80", b'{"step": 3}', b'{"kind": "step", "step": "x"}', b"7"]
)
def test_what_a_power_loss_leaves_of_the_last_lines_is_left_out(tmp_path: Path, torn: bytes) -> None:
    """Zeros, another file's bytes, JSON that is no record: neither read nor kept, and nothing else goes with them."""
    write(tmp_path, 1, 2)
    with (tmp_path / METRICS).open("ab") as file:
        file.write(torn + b"\n")
    assert [record["step"] for record in read_kind(tmp_path)] == [1, 2]
    write(tmp_path, 3, since=2)
    assert [record["step"] for record in lines(tmp_path)] == [1, 2, 3]


def test_records_are_on_the_disk_when_a_checkpoint_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that a full disk refused before; a disk that fails is told of."""
    recorder = Recorder(tmp_path, 0)
    recorder._file.close()
    monkeypatch.setattr(recorder, "_file", SmallDisk(tmp_path / METRICS, "a"))
    SmallDisk.left = 0
    assert recorder.record("step", 1, {"loss": 1.5}) is not None
    assert recorder.sync() is not None
    SmallDisk.left = 1000
    synced = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
        assert recorder.sync() is None
    assert synced == [(tmp_path / METRICS).stat().st_size]
    assert [record["step"] for record in lines(tmp_path)] == [1]

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        assert isinstance(recorder.sync(), OSError)
    recorder.close()


@pytest.mark.parametrize("since", [0, 2])
def test_curves_are_purged_on_resume(since: int, tmp_path: Path) -> None:
    """TensorBoard drops points from the step of a START event on; also where a run goes back to its beginning."""
    write(tmp_path, 1, 2, 3)
    assert all(event.WhichOneof("what") != "session_log" for event in events(tmp_path))
    write(tmp_path, 3, since=since)
    starts = [event.step for event in events(tmp_path) if event.WhichOneof("what") == "session_log"]
    assert starts == [since + 1]


def test_nothing_is_read_where_nothing_is(tmp_path: Path) -> None:
    assert read_kind(tmp_path) == []


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"value": math.nan, "tuple": (1, 2)})
    assert json.loads(path.read_text()) == {"value": None, "tuple": [1, 2]}
    with pytest.raises(TypeError):
        write_json(path, {"value": object()})
    assert json.loads(path.read_text()) == {"value": None, "tuple": [1, 2]}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"value": 1})

    def torn(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OSError, match="no space"):
        write_json(path, {"value": 2, "more": "text"})
    assert json.loads(path.read_text()) == {"value": 1}


class SmallDisk(io.FileIO):
    """A file on a disk with so many bytes left, of which a write takes what fits."""

    left = 0

    def write(self, data: Any) -> int:
        if not SmallDisk.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = super().write(bytes(data)[: SmallDisk.left])
        SmallDisk.left -= taken
        return taken


def test_a_full_disk_tears_no_line_and_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SmallDisk.left = 60
    (tmp_path / METRICS).touch()
    recorder = Recorder(tmp_path, 0)
    recorder._file.close()
    monkeypatch.setattr(recorder, "_file", SmallDisk(tmp_path / METRICS, "a"))
    assert recorder.record("step", 1, {"loss": 1.5}) is None
    for step in (2, 3):
        error = recorder.record("step", step, {"loss": 1.5})
        assert error is not None
        assert error.errno == errno.ENOSPC
        assert [record["step"] for record in lines(tmp_path)] == [1]
    SmallDisk.left = 1000
    assert recorder.record("step", 4, {"loss": 1.5}) is None
    SmallDisk.left = 0
    assert recorder.record("step", 5, {"loss": 1.5}) is not None
    assert recorder.close() == 1
    assert [record["step"] for record in lines(tmp_path)] == [1, 2, 3, 4]


def test_curves_go_on_in_another_file_after_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: RecordWriter, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    recorder = Recorder(tmp_path, 0)
    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "write", full)
        assert recorder.record("step", 1, {"loss": 1.5}) is not None
    assert recorder.record("step", 2, {"loss": 2.5}) is None
    assert recorder.close() == 0
    assert [record["step"] for record in lines(tmp_path)] == [1, 2]
    assert [event.step for event in events(tmp_path) if event.WhichOneof("what") == "summary"] == [2]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_plain_leaves_what_json_has() -> None:
    content = {"a": [1, 2.5, "x", None, True], "b": {"c": -0.0}}
    assert plain(content) == content
