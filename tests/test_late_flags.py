"""A flag that cannot work is refused before the work that comes before its use: here, work that would fail itself.

The corpus of each command holds a file that is no audio, and the weights are no weights. Whoever names the flag has
looked at it before them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cmgan_jax.cli import _cli, evaluate, export, export_torch, import_torch, prepare_data
from experiments import kill_test, soak_test

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A corpus of broken files, a file of broken weights, and `file`, below which no folder can be."""
    for side in ("clean", "noisy"):
        (tmp_path / "data" / "train" / side).mkdir(parents=True)
        for name in ("p1_001.wav", "p2_001.wav"):
            (tmp_path / "data" / "train" / side / name).write_bytes(b"no audio")
    for name in ("weights.pt", "file"):
        (tmp_path / name).write_bytes(b"no weights")
    (tmp_path / "compared" / "comparison.html").mkdir(parents=True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    return tmp_path


TRAIN = "experiments.train --data data --preset tiny --out run"
COMPARE = "experiments.compare --data data --preset tiny --study recipes --out compared"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (f"{TRAIN}/x --out file/run", "--out file/run: {}/file is no folder"),
        (f"{TRAIN} --devices 2", "--devices 2: this machine has 1"),
        (f"{TRAIN} --generator.backend triton", "--generator.backend triton: kernels need an NVIDIA GPU"),
        (f"CMGAN_INJECT_PESQ_FAILURES=2 {TRAIN}", "environment variable CMGAN_INJECT_PESQ_FAILURES is '2'"),
        (f"{COMPARE} --out file/x", "--out file/x: {}/file is no folder"),
        (f"{COMPARE} --reference recomended", "--reference recomended: there are recommended, "),
        (COMPARE, "--out compared: comparison.html in it is a folder"),
        (f"{COMPARE}/x --devices 2", "variant recommended: --devices 2: this machine has 1"),
        ("experiments.scaling --devices 1 --json a --page ./a", "--json and --page a: one file cannot hold both"),
    ],
)
@pytest.mark.subprocess
def test_before_a_corpus_is_read(place: Path, command: str, said: str) -> None:
    """In processes of their own: what they set is set for good. One device, which is not made of several cores."""
    words = command.split()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert any(line.startswith(said.format(place)) for line in done.stderr.splitlines()), done.stderr
    assert "audio" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("program", "words", "said"),
    [
        (
            evaluate,
            "--checkpoint weights.pt --data data/train --json a.json --csv ./a.json",
            "--json and --csv a.json: one file",
        ),
        (evaluate, "--checkpoint weights.pt --data data/train --report r --json r/index.html", "--json r/index.html"),
        (evaluate, "--checkpoint weights.pt --data data/train --also other=none", "none"),
        (export, "--checkpoint weights.pt --out file", "file exists already"),
        (export, "--checkpoint weights.pt --out none/x", "--out none/x: its folder does not exist"),
        (export_torch, "--checkpoint weights.pt --out file/x", "--out file/x: {}/file is no folder"),
        (import_torch, "--generator weights.pt --out file/x", "--out file/x: {}/file is no folder"),
        (prepare_data, "voicebank data --out file/x", "--out file/x: {}/file is no folder"),
        (prepare_data, "demo --out file/x", "--out file/x: {}/file is no folder"),
        (import_torch, "--generator weights.pt --out caf\udce9", "--out caf\\udce9: its name is no UTF-8"),
        (kill_test, "--kills-a-run 0", "--kills-a-run 0: it must be 1 or more"),
        (kill_test, "--save-every often", "--save-every is often: it must be"),
        (
            kill_test,
            "--out thesis",
            "--out thesis: it would be deleted, and holds what is not of this program (chapter",
        ),
        (soak_test, "--out thesis", "--out thesis: it would be deleted"),
        (soak_test, "--growth -1", "--growth -1.0: it must be 0 or more"),
    ],
)
def test_before_anything_is_loaded_or_deleted(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program, words: str, said: str
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [program.__name__, *words.split()])
    with pytest.raises(SystemExit) as left:
        _cli.run(program.main)
    told = capsys.readouterr().err
    assert left.value.code == 2, told
    assert said.format(place) in told
    assert "weights.pt" not in told
    assert (place / "thesis" / "chapter.txt").exists()
