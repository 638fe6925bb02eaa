"""Findings while a run goes on: each announced once, those of now in a file, and a full disk stops nothing."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from run_records import made_up

from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs.records import read_kind
from cmgan_jax.training import observer, pictures
from cmgan_jax.training.display import Display
from cmgan_jax.training.observer import Observer
from cmgan_jax.training.records import Recorder
from cmgan_jax.training.validation import Held

CONFIG = override(make_config("recommended", "demo"), {"health.diagnose_every": 6})
CLEAN = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)


class Notes(Display):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def watch(folder: Path, notes: Notes, since: int = 0) -> None:
    """A made-up run, observed as the loop does it."""
    recorder = Recorder(folder, since)
    watching = Observer(folder, CONFIG, recorder, notes, Held({"clean": CLEAN[None], "noisy": CLEAN[None]}, files()))
    for record in made_up():
        numbers = {name: value for name, value in record.items() if name not in ("kind", "step")}
        if record["step"] > since:
            recorder.record(record["kind"], record["step"], numbers)
            if record["kind"] == "step":
                watching.after_window(record["step"])
            else:
                watching.after_epoch(record["step"], record["epoch"], {name: CLEAN for name, _, _ in files()})
    recorder.close()


def files() -> list[tuple[str, np.ndarray, np.ndarray]]:
    return [(name, CLEAN, CLEAN) for name in ("one", "two", "three")]


def test_a_verdict_is_said_once_and_the_present_ones_are_filed(tmp_path: Path) -> None:
    notes = Notes()
    watch(tmp_path, notes)
    said = read_kind(tmp_path, "finding")
    codes = [record["code"] for record in said]
    assert len(codes) == len(set(codes)) == len(notes.said)
    assert {"pesq_collapse", "skipped_updates", "scores_failing"} <= set(codes)
    assert not {"healthy", "too_little_data"} & set(codes)
    # Skipped updates show in the windows, before an epoch (of 120 steps) tells of a collapse in the sixth.
    at = {record["code"]: record["step"] for record in said}
    assert at["skipped_updates"] <= 120 < at["pesq_collapse"] <= 8 * 120
    now = json.loads((tmp_path / "health.json").read_text())
    assert now["step"] == 8 * 120
    assert now["findings"][0]["code"] == "pesq_collapse"
    assert now["findings"][0]["level"] == "collapse"
    page = (tmp_path / "report.html").read_text()
    assert "[pesq_collapse]" in page
    assert [f"<h3>{name}</h3>" in page for name, _, _ in files()] == [True, False, True]
    assert sorted(p.name for p in (tmp_path / "report").glob("*-008-*")) == ["epoch-008-one.png", "epoch-008-three.png"]


def test_a_resumed_run_does_not_repeat_itself(tmp_path: Path) -> None:
    watch(tmp_path, Notes())
    whole = read_kind(tmp_path)
    notes = Notes()
    watch(tmp_path, notes, since=3 * 120)
    assert read_kind(tmp_path) == whole
    assert all(text.startswith("step ") and int(text.split(",")[0][5:]) > 360 for text in notes.said)


def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "report.html"))

    monkeypatch.setattr(observer, "write_text", full)
    monkeypatch.setattr(pictures, "save_epoch", full)
    notes = Notes()
    watch(tmp_path, notes)
    assert "report.html could not be written (No space left on device); the run goes on without it" in notes.said
    assert len(read_kind(tmp_path, "epoch")) == 8


def test_records_that_could_not_be_written_are_judged_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Recorder, "_write_waiting", full)
    watch(tmp_path, Notes())
    assert read_kind(tmp_path) == []
    assert "[pesq_collapse]" in (tmp_path / "report.html").read_text()


def test_nothing_is_done_where_health_is_off(tmp_path: Path) -> None:
    config = override(CONFIG, {"health.measure": False})
    recorder = Recorder(tmp_path, 0)
    held = Held({"clean": CLEAN[None], "noisy": CLEAN[None]}, files())
    watching = Observer(tmp_path, config, recorder, Notes(), held)
    watching.after_window(config.log_every * config.health.diagnose_every)
    watching.after_epoch(3, 1, {})
    recorder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]
