"""The command line of the evaluation: what it writes, refuses and returns, and that it can be interrupted."""

import contextlib
import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from recordings import RATE, make_folders, speech, store

from cmgan_jax.cli import evaluate as program
from cmgan_jax.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folders(tmp_path) -> Path:
    return make_folders(tmp_path)


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, words)])
    return program.main()


def test_given_files_are_scored_and_written(folders, monkeypatch, capsys):
    status = run(
        monkeypatch,
        *("--clean", folders / "clean", "--enhanced", folders / "enhanced", "--noisy", folders / "noisy"),
        *("--also", f"none={folders / 'noisy'}", "--json", folders / "r.json", "--csv", folders / "r.csv"),
        *("--report", folders / "page", "--report-audio", 1),
    )
    assert status == 0
    out = capsys.readouterr().out
    assert "2 scored of 2" in out
    assert "the audio of the worst 1 of 2 files" in out
    content = json.loads((folders / "r.json").read_text())
    for noisy, same, enhanced in ((f["noisy"], f["none"], f) for f in content["files"]):
        assert noisy == same
        assert enhanced["ssnr"] > noisy["ssnr"]
    assert len((folders / "r.csv").read_text().splitlines()) == 3
    assert (folders / "page" / "index.html").read_text().startswith("<!doctype html>")


def test_floats_at_16_bit_scale_are_noted_everywhere(folders, monkeypatch, capsys):
    signal, _ = soundfile.read(folders / "enhanced" / "p001_a.wav")
    store(folders / "enhanced" / "p001_a.wav", 32_768 * signal)
    words = ("--clean", folders / "clean", "--enhanced", folders / "enhanced", "--json", folders / "r.json")
    assert run(monkeypatch, *words, "--report", folders / "page") == 0
    told = "the estimate is more than 40 dB louder"
    assert f"enhanced: {told}" in capsys.readouterr().out
    first, second = json.loads((folders / "r.json").read_text())["files"]
    assert told in first["notes"][0]
    assert second["notes"] == []
    assert told in (folders / "page" / "index.html").read_text()


def test_the_status_tells_of_files_without_a_score(folders, monkeypatch, capsys):
    (folders / "enhanced" / "p002_b.wav").write_bytes(b"not audio")
    store(folders / "clean" / "p003_c.wav", speech())
    assert run(monkeypatch, "--clean", folders / "clean", "--enhanced", folders / "enhanced") == 1
    out = capsys.readouterr().out
    assert "1 scored of 3" in out
    assert "p003_c: no enhanced file of that name" in out
    assert "p002_b.wav: " in out


def test_a_checkpoint_enhances_what_is_scored(folders, monkeypatch, capsys):
    class Half:
        """Adds nothing to the noisy file but a gain, which SI-SDR does not see."""

        weights = SimpleNamespace(label="runs/x", step=7)

        def enhance(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
            if not np.isfinite(audio).all():
                raise ValueError("audio holds NaN or infinity")
            assert sample_rate == RATE
            return audio / 2

    loaded = []
    monkeypatch.setattr(program, "load_enhancer", lambda given, noisy: loaded.append((given, noisy)) or Half())
    store(folders / "noisy" / "p003_c.wav", np.full(RATE, np.nan, np.float32))
    store(folders / "clean" / "p003_c.wav", speech(1))
    store(folders / "noisy" / "p004_d.wav", np.zeros((RATE, 2), np.float32))
    store(folders / "clean" / "p004_d.wav", speech(1))
    words = ("--checkpoint", "runs/x", "--step", 7, "--data", folders, "--keep", folders / "kept")
    assert run(monkeypatch, *words, "--json", folders / "r.json") == 1
    ((given, noisy),) = loaded
    assert (given.checkpoint, given.step, given.strength, noisy) == (Path("runs/x"), 7, 1.0, folders / "noisy")
    out = capsys.readouterr().out
    assert "2 scored of 4" in out
    assert "cannot be enhanced: audio holds NaN" in out
    assert "2 channels" in out
    content = json.loads((folders / "r.json").read_text())
    for enhanced in content["files"][:2]:
        assert enhanced["si_sdr"] == pytest.approx(enhanced["noisy"]["si_sdr"], abs=1e-4)
        assert enhanced["ssnr"] != pytest.approx(enhanced["noisy"]["ssnr"], abs=0.1)
    assert content["source"]["step"] == "7"
    assert sorted(path.name for path in (folders / "kept").iterdir()) == ["p001_a.wav", "p002_b.wav"]


def test_a_model_that_gives_no_numbers_costs_its_scores(folders, monkeypatch, capsys):
    weights = SimpleNamespace(label="runs/x", step=7)
    model = SimpleNamespace(weights=weights, enhance=lambda audio, rate: np.full_like(audio, np.nan))
    monkeypatch.setattr(program, "load_enhancer", lambda *_: model)
    assert run(monkeypatch, "--checkpoint", "runs/x", "--data", folders) == 1
    out = capsys.readouterr().out
    assert "enhanced: 0 scored of 2" in out
    assert "the model gives numbers that are not finite" in out


def test_mp3_is_scored(folders, monkeypatch, capsys):
    for name in ("p001_a", "p002_b"):
        signal, rate = soundfile.read(folders / "enhanced" / f"{name}.wav")
        soundfile.write(folders / "enhanced" / f"{name}.mp3", signal, rate)
        (folders / "enhanced" / f"{name}.wav").unlink()
    run(monkeypatch, "--clean", folders / "clean", "--enhanced", folders / "enhanced")
    assert "2 scored of 2" in capsys.readouterr().out


def test_a_copy_and_a_kind_that_is_not_read(folders, monkeypatch, capsys):
    """What lost nothing goes before its compressed copy; a file of a foreign kind is named with the remedy."""
    signal, rate = soundfile.read(folders / "enhanced" / "p001_a.wav")
    soundfile.write(folders / "enhanced" / "p001_a.mp3", 0 * signal, rate)
    (folders / "clean" / "notes.txt").touch()
    (folders / "enhanced" / "p002_b.wav").rename(folders / "enhanced" / "p002_b.m4a")
    words = ("--clean", folders / "clean", "--enhanced", folders / "enhanced", "--json", folders / "r.json")
    assert run(monkeypatch, *words) == 1
    out = capsys.readouterr().out
    assert "1 scored of 2" in out
    content = json.loads((folders / "r.json").read_text())
    assert content["files"][0]["notes"] == ["enhanced: p001_a.mp3 beside it is left out"]
    assert content["source"]["no recordings"] == "clean: 1 .txt passed over"
    assert "no recordings: clean: 1 .txt passed over\n" in out
    assert "p002_b.m4a: .m4a files are not read here: convert it" in out


@pytest.mark.subprocess
def test_files_are_written_before_a_reader_may_go(folders):
    """`evaluate … | head -0`: the tables find no reader; what was asked for is there all the same."""
    words = [sys.executable, "-m", "experiments.evaluate", "--clean", folders / "clean", "--enhanced"]
    words += [folders / "enhanced", "--json", folders / "r.json", "--csv", folders / "r.csv"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(120) == 141
        assert process.stderr.read() == b""
    assert len(json.loads((folders / "r.json").read_text())["files"]) == 2
    assert len((folders / "r.csv").read_text().splitlines()) == 3


def test_a_file_that_cannot_be_written_leaves_the_others(folders, monkeypatch, capsys):
    written = program.write_text

    def full(path: Path, text: str) -> None:
        if path.suffix == ".csv":
            raise OSError(28, "No space left on device")
        written(path, text)

    monkeypatch.setattr(program, "write_text", full)
    words = ("--clean", folders / "clean", "--enhanced", folders / "enhanced", "--csv", folders / "r.csv")
    with pytest.raises(UserError, match=r"r.csv: not written: No space left"):
        run(monkeypatch, *words, "--json", folders / "r.json", "--report", folders / "page")
    assert (folders / "r.json").exists()
    assert (folders / "page" / "index.html").exists()
    assert "2 scored of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to score"),
        (["--clean", "{}/clean"], "nothing to score"),
        (["--checkpoint", "x"], "--checkpoint needs --data"),
        (["--checkpoint", "x", "--data", "{}", "--clean", "{}/clean"], "stands alone"),
        (["--checkpoint", "x", "--data", "{}/clean"], "no folder clean/"),
        (["--clean", "{}/clean", "--enhanced", "{}/nothing"], "no such folder"),
        (["--clean", "{}/clean", "--enhanced", "{}/enhanced", "--keep", "x"], "--keep goes with --data"),
        (["--clean", "{}/clean", "--enhanced", "{}/enhanced", "--strength", "0.5"], "--strength goes with --data"),
        (["--checkpoint", "x", "--data", "{}", "--strength", "1.5"], "--strength 1.5: it must be auto"),
        (["--clean", "{}/clean", "--enhanced", "{}/enhanced", "--also", "x"], "NAME=DIR"),
        (["--clean", "{}/clean", "--enhanced", "{}/enhanced", "--also", "clean=x"], "taken"),
        (["--clean", "{}/clean", "--enhanced", "{}/enhanced", "--json", "{}/no/r.json"], "does not exist"),
        (["--clean", "{}/clean", "--enhanced", "{}/enhanced", "--workers", "-1"], "--workers"),
        (["--clean", "{}/clean", "--enhanced", "{}/enhanced", "--also", "pesq=x"], "taken"),
        (["--clean", "{}/clean", "--enhanced", "{}/enhanced", "--report", "{}/clean/p001_a.wav"], "is no folder"),
        (["--checkpoint", "x", "--data", "{}", "--keep", "{}/noisy/"], "its files are read"),
        (["--checkpoint", "x", "--data", "{}", "--keep", "{}/clean"], "its files are read"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(folders, monkeypatch, words, message):
    with pytest.raises(UserError, match=message):
        run(monkeypatch, *(word.format(folders) for word in words))


def test_the_literature_s_measures_come_out_of_the_command(shared, tmp_path, monkeypatch):
    # Expected: ../shared/voicebank/test/*_metrics.csv; the three shortest files.
    source, names = shared / "voicebank" / "test", ("p232_170", "p232_052", "p232_014")
    for folder in ("clean", "noisy", "published"):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.flac").symlink_to(source / folder / f"{name}.flac")
    where = ("--clean", tmp_path / "clean", "--noisy", tmp_path / "noisy", "--enhanced", tmp_path / "published")
    assert run(monkeypatch, *where, "--json", tmp_path / "r.json") == 0
    content = json.loads((tmp_path / "r.json").read_text())
    for system, log in (("noisy", "noisy"), ("enhanced", "published")):
        with open(source / f"{log}_metrics.csv") as file:
            rows = [row for row in csv.DictReader(file) if row["name"] in names]
        for metric in ("pesq", "csig", "cbak", "covl", "ssnr", "stoi"):
            expected = math.fsum(float(row[metric]) for row in rows) / len(names)
            assert content["systems"][system]["summary"][metric]["mean"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.subprocess
def test_scoring_given_files_does_not_start_jax():
    code = "import sys, experiments.evaluate; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def scoring_workers(parent: int) -> list[int]:
    """Process ids of the workers that the threads of a process have started."""
    found = []
    for listed in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # of a thread or a process that has ended meanwhile
            for pid in listed.read_text().split():
                if b"scoring_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the worker is found through Linux's /proc")
@pytest.mark.subprocess
def test_an_interrupt_does_not_wait_for_what_is_being_scored(tmp_path):
    store(tmp_path / "minute.wav", np.tile(speech(10), 6))
    for folder in ("c", "e"):
        (tmp_path / folder).mkdir()
        for name in "abcdefghijklmnopqrst":  # PESQ takes a second of each: long enough to be found at it
            (tmp_path / folder / f"{name}.wav").symlink_to(tmp_path / "minute.wav")
    command = [sys.executable, "-m", "experiments.evaluate", "--clean", tmp_path / "c", "--enhanced", tmp_path / "e"]
    workers: list[int] = []
    # A shell that runs the tests in the background has them ignore Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    with process:
        try:
            while not workers and process.poll() is None:
                time.sleep(0.05)
                workers = scoring_workers(process.pid)
            time.sleep(1.5)
            workers = scoring_workers(process.pid)
            for worker in workers:  # from here on the scores that are being made never come
                os.kill(worker, signal.SIGSTOP)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert workers
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)
