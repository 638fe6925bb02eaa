"""Two hundred damaged files before every program: no traceback, no hang, each file named or used, the rest done.

What is certainly unusable must be named, by the lists of `damaged_files`; of the others, whatever a program does not
name it must have used, and nothing that it made of them may hold NaN.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from damaged_files import CERTAIN, CHANCES, Damaged, encoded, make_damaged, speech
from test_enhance_cli import processor

from cmgan_jax.cli import _cli, enhance
from cmgan_jax.cli import evaluate as evaluation
from cmgan_jax.data.corpus import CorpusSource, Pair
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.prepare.voicebank import prepare_voicebank
from cmgan_jax.errors import UserError, printable
from cmgan_jax.evaluation.evaluation import ENHANCED, NOISY
from cmgan_jax.evaluation.scores import METRICS
from cmgan_jax.recipes import make_config

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(120)


def add_partners(damaged: list[Damaged], folder: Path) -> None:
    """A sound file for each damaged one, by name."""
    folder.mkdir(parents=True)
    for number, file in enumerate(damaged):
        (folder / file.path.name).with_suffix(".wav").write_bytes(encoded(samples=speech(seed=number)))


def add_pairs(clean: Path, noisy: Path) -> tuple[Path, Path]:
    """Four sound pairs of two speakers, and two that do not fit together; gives those."""
    for seed, (name, other) in enumerate((("p1_1", 9_600), ("p2_1", 9_600), ("p3_longer", 8_000)), 10):
        (clean / f"{name}.wav").write_bytes(encoded(samples=speech(seed=seed)[:9_600]))
        (noisy / f"{name}.wav").write_bytes(encoded(samples=speech(seed=seed + 10)[:other]))
    (clean / "p4_alone.wav").write_bytes(encoded())
    return noisy / "p3_longer.wav", clean / "p4_alone.wav"


def test_every_kind_is_there(tmp_path: Path) -> None:
    damaged = make_damaged(tmp_path)
    assert len({file.path for file in damaged}) == 200
    assert {file.kind for file in damaged} == {*CERTAIN, *CHANCES}


def test_the_check_before_training_names_them_and_goes_on_without(tmp_path: Path) -> None:
    damaged = make_damaged(tmp_path / "train" / "noisy")
    add_partners(damaged, tmp_path / "train" / "clean")
    unfit = add_pairs(tmp_path / "train" / "clean", tmp_path / "train" / "noisy")
    config = make_config(preset="tiny")
    with pytest.raises(UserError) as refusal:
        open_corpus(CorpusSource(tmp_path), config)
    corpus = open_corpus(CorpusSource(tmp_path), config, skip_bad=True)
    used = {pair.noisy for pair in (*corpus.train, *corpus.validation) if isinstance(pair, Pair)}
    named = {problem.path for problem in corpus.skipped}
    listed = str(refusal.value).splitlines()
    assert len(listed) == len(corpus.skipped) + 2  # a line each, also where a name has line ends; a head, a remedy
    assert used.isdisjoint(named)
    assert {tmp_path / "train" / "noisy" / f"{name}.wav" for name in ("p1_1", "p2_1")} <= used
    assert set(unfit) <= named
    for file in damaged:
        assert (file.path in named) or (not file.certain and file.path in used), file
        if file.path in named:
            assert any(line.startswith(f"  {printable(file.path)}: ") for line in listed), file


def test_enhance_names_them_and_enhances_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = make_damaged(tmp_path / "in")
    (tmp_path / "in" / "good.wav").write_bytes(encoded())
    monkeypatch.setattr(enhance.Enhancer, "from_checkpoint", lambda *_: processor())
    monkeypatch.setattr(enhance, "cache_programs", lambda: None)
    words = ["--checkpoint", "x", "--out", str(tmp_path / "out"), "--", str(tmp_path / "in")]
    monkeypatch.setattr(sys, "argv", ["enhance", *words])
    with pytest.raises(SystemExit) as left:
        _cli.run(enhance.main)
    assert left.value.code == enhance.SOME_FAILED
    lines = capsys.readouterr().out.splitlines()
    done = {path.name for path in (tmp_path / "out").iterdir()}
    assert "good.wav" in done
    assert lines[0].startswith(f"{len(done)} of 201 enhanced")
    assert len(lines) == 1 + 201 - len(done)
    for file in damaged:
        named = any(line.startswith(f"  failed: {printable(file.path)}: ") for line in lines)
        assert named != (file.path.name in done), file
        assert named or not file.certain, file
        if not named:
            assert np.isfinite(soundfile.read(os.open(tmp_path / "out" / file.path.name, os.O_RDONLY))[0]).all()


def test_evaluate_names_them_and_scores_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = make_damaged(tmp_path / "noisy")
    add_partners(damaged, tmp_path / "clean")
    add_pairs(tmp_path / "clean", tmp_path / "noisy")
    model = SimpleNamespace(
        weights=SimpleNamespace(label="x", step=1), enhance=lambda audio, rate: processor().enhance(audio, rate)
    )
    monkeypatch.setattr(evaluation, "load_enhancer", lambda *_: model)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            *("evaluate", "--checkpoint", "x", "--data", str(tmp_path)),
            *("--json", str(tmp_path / "scores.json"), "--csv", str(tmp_path / "scores.csv")),
            *("--report", str(tmp_path / "page"), "--report-audio", "5"),
        ],
    )
    with pytest.raises(SystemExit) as left:
        _cli.run(evaluation.main)
    assert left.value.code == evaluation.INCOMPLETE
    out = capsys.readouterr().out
    files = {file["name"]: file for file in json.loads((tmp_path / "scores.json").read_text())["files"]}
    assert len(files) == len(damaged) + 4
    assert files["p1_1"]["pesq"] > 1
    assert "p4_alone" in out
    assert not (tmp_path / "page" / "index.html").read_text().count("NaN,")
    for file in damaged:
        scores = files[file.path.with_suffix("").name]
        for of in (scores, scores[NOISY]):
            missing = {metric for metric in METRICS if of.get(metric) is None}
            assert missing == set(of["reasons"]), (file, ENHANCED)
            assert missing == set(METRICS) or not file.certain, file
        assert not scores["reasons"] or printable(file.path.with_suffix("").name) in out


def test_prepare_data_names_them_and_converts_the_rest(tmp_path: Path) -> None:
    source = tmp_path / "source"
    clean, noisy = (source / f"{side}_trainset_28spk_wav" for side in ("clean", "noisy"))
    damaged = make_damaged(noisy)
    add_partners(damaged, clean)
    unfit = add_pairs(clean, noisy)
    for side in ("clean", "noisy"):
        (source / f"{side}_testset_wav").mkdir()
        (source / f"{side}_testset_wav" / "p300_001.wav").write_bytes(encoded())
    there = {printable(path): path for side in (clean, noisy) for path in side.iterdir()}
    named = set()
    # It refuses a source with anything wrong in it: first by names, then by what the files hold.
    for _ in range(2):
        with pytest.raises(UserError) as refusal:
            prepare_voicebank(source, tmp_path / "out")
        head, *lines = str(refusal.value).splitlines()
        assert head.startswith(f"{len(lines)} problems")
        told = {there[line.strip().partition(": ")[0]] for line in lines}
        named |= {path.with_suffix("").name for path in told}
        assert not (tmp_path / "out").exists()
        for path in there.values():
            if path.with_suffix("").name in named:
                path.unlink(missing_ok=True)
    assert {file.path.with_suffix("").name for file in damaged if file.certain} <= named
    assert {path.with_suffix("").name for path in unfit} <= named
    made = prepare_voicebank(source, tmp_path / "out") / "train" / "noisy"
    assert {path.stem for path in made.iterdir()} == {path.with_suffix("").name for path in there.values()} - named
    assert {"p1_1.wav", "p2_1.wav"} <= {path.name for path in made.iterdir()}


@pytest.fixture
def few(tmp_path: Path) -> tuple[Path, list[Damaged]]:
    """Pairs for a whole command: two sound ones, and one of every kind of damage."""
    damaged = make_damaged(tmp_path / "in" / "train" / "noisy", len(CERTAIN) + len(CHANCES), seed=1)
    add_partners(damaged, tmp_path / "in" / "train" / "clean")
    add_pairs(tmp_path / "in" / "train" / "clean", tmp_path / "in" / "train" / "noisy")
    return tmp_path / "in" / "train", damaged


def command(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    """A whole program, where the terminal knows no letters but those of ASCII."""
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=plain, capture_output=True, timeout=100)
    assert b"Traceback" not in found.stderr, found.stderr.decode()
    return found


@pytest.mark.subprocess
def test_the_command_evaluate_names_them_in_any_locale(few: tuple[Path, list[Damaged]]) -> None:
    folder, damaged = few
    words = ("experiments.evaluate", "--clean", folder / "clean", "--enhanced", folder / "noisy", "--workers", "1")
    found = command(*words, "--json", folder / "scores.json")
    assert found.returncode == evaluation.INCOMPLETE
    files = {file["name"]: file for file in json.loads((folder / "scores.json").read_text())["files"]}
    for file in damaged:
        reasons = files[os.fsencode(file.path.with_suffix("").name).decode("ascii", "surrogateescape")]["reasons"]
        assert set(reasons) == set(METRICS) or not file.certain, file
    assert files["p1_1"]["pesq"] > 1


@pytest.mark.subprocess
def test_the_command_train_names_them_and_begins_nothing(few: tuple[Path, list[Damaged]], tmp_path: Path) -> None:
    folder, damaged = few
    found = command("experiments.train", "--data", folder.parent, "--out", tmp_path / "run", "--preset", "tiny")
    assert found.returncode == _cli.USER_ERROR
    lines = found.stderr.decode().splitlines()
    for file in damaged:
        if file.certain:
            number = file.path.name.partition(" ")[0]
            assert any(f"/noisy/{number} " in line for line in lines), file
    assert not (tmp_path / "run").exists()
