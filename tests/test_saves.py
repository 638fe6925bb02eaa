"""A run whose disk fails it: what is saved, what is told, and that nothing is lost for good."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from recordings import make_pairs
from test_checkpoint import full_for, places

from cmgan_jax.cli.train import closing
from cmgan_jax.config import Config
from cmgan_jax.data.corpus import Corpus, CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.diagnosis.origin import describe
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs.folder import find, steps_in
from cmgan_jax.runs.records import read_kind
from cmgan_jax.training import loop
from cmgan_jax.training.display import Display, Progress
from cmgan_jax.training.launch import RunOptions, launch
from cmgan_jax.training.loop import Outcome

# Without conformers: quick to compile.
CONFIG = override(
    make_config("recommended", "tiny"),
    {"steps_per_epoch": 1, "save_every": "0min", "generator.blocks": 0, "generator.dense_depth": 1},
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Eight pairs of four synthesised speakers, two of which are held out."""
    return open_corpus(CorpusSource(data=make_pairs(tmp_path_factory.mktemp("corpus"), 4)), CONFIG)


def train(corpus: Corpus, out: Path, config: Config, display: Display, resume: bool = False) -> Outcome:
    return launch(config, corpus, RunOptions(out, devices=2, resume=resume), display)


class Scripted(Display):
    """Has epochs the PESQ that it is told; collects what a person reads.

    Args:
        patch: for as long as the script goes on.
        pesq: of each epoch that is validated; None: a file lacks its score.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *pesq: float | None):
        super().__init__()
        self.said: list[str] = []
        script, score_files = iter(pesq), loop.score_files

        def scored(*arguments: Any) -> Any:
            found, value = score_files(*arguments), next(script)
            lacking = {"complete": False, "score_partial": 4.0, "scored": 1, "unscored": {"p4_001": "timeout"}}
            return found._replace(summary=found.summary | {"score": value} | (lacking if value is None else {}))

        patch.setattr(loop, "score_files", scored)

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.slow
def test_the_best_epoch_is_kept_though_the_disk_was_full_and_files_lacked_scores(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epoch 3 is the best, and its checkpoint cannot be written at first. 2 and 5 lack a score, 4 and 6 are worse."""
    out = tmp_path / "run"
    config = override(CONFIG, {"epochs": 4})
    refused = {"best/3"}
    full_for(monkeypatch, refused)
    with monkeypatch.context() as patch:
        display = Scripted(patch, 2.3, None, 2.9, 2.5)
        with pytest.raises(UserError, match=r"last checkpoint, of step 4, could not be written \(No space.*--resume"):
            train(corpus, out, config, display)
    assert places(out, "best", "latest") == ["best/1", "latest/1", "latest/2"]
    assert any("1 of 2 held-out files only" in said and "p4_001 (timeout)" in said for said in display.said)
    assert any("the best so far, of step 3, is tried again before any other" in said for said in display.said)
    assert [record["best"] for record in read_kind(out, "epoch")] == [True, False, True, False]
    assert [record["validation"]["complete"] for record in read_kind(out, "epoch")] == [True, False, True, True]
    # What is to be had is told, not what has been lost.
    assert describe(out)["best"]["epoch"] == 1
    # Epochs 3 and 4 come again, and the disk has room before the last one: that must not take the place of 3.
    with monkeypatch.context() as patch:
        display = Scripted(patch, 2.9, 2.5, None, 2.8)
        display.note = lambda text: (display.said.append(text), "epoch 5/6" in text and refused.clear())  # type: ignore[method-assign]
        outcome = train(corpus, out, override(config, {"epochs": 6}), display, resume=True)
    assert outcome.best is not None
    assert (outcome.best["epoch"], outcome.best["score"]) == (3, 2.9)
    assert places(out, "best", "latest") == ["best/3", "latest/5", "latest/6"]
    assert [record["best"] for record in read_kind(out, "epoch")] == [True, False, True, False, False, False]
    assert describe(out)["best"]["epoch"] == 3
    assert "(epoch 3, 2 of 2 files scored)" in closing(outcome, out)


@pytest.mark.slow
def test_a_run_none_of_whose_epochs_is_complete_says_so(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override(CONFIG, {"epochs": 1})
    outcome = train(corpus, tmp_path / "run", config, Scripted(monkeypatch, None))
    assert outcome.best is None
    assert steps_in(tmp_path / "run" / "best") == []
    assert "no epoch has a PESQ of all held-out files" in closing(outcome, tmp_path / "run")
    assert find(tmp_path / "run").kind == "latest"


class Stopper(Display):
    """Sends SIGTERM to this very process after the first step."""

    def show(self, progress: Progress) -> None:
        super().show(progress)
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_run_whose_record_a_power_loss_took_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    """Zeros instead of run.json: it is neither an empty folder nor lost."""
    out = tmp_path / "run"
    config = override(CONFIG, {"epochs": 2})
    assert train(corpus, out, config, Stopper()).interrupted
    expected = json.loads((out / "run.json").read_text())["config"]
    (out / "run.json").write_bytes(bytes(400))
    with pytest.raises(UserError, match="holds a run already"):
        train(corpus, out, config, Display())
    assert train(corpus, out, config, Display(), resume=True).step == 2
    assert json.loads((out / "run.json").read_text())["config"] == expected
    assert [record["step"] for record in read_kind(out, "epoch")] == [1, 2]
