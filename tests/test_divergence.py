"""A run of steps that are not finite stops, says from where to go on, and leaves the batch."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgan_jax.data import pipeline
from cmgan_jax.data.corpus import Corpus, CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs.records import read_kind
from cmgan_jax.training import divergence, stepper
from cmgan_jax.training.checkpoint import CheckpointStore
from cmgan_jax.training.display import Display
from cmgan_jax.training.divergence import WATCHED, Diverged
from cmgan_jax.training.launch import RunOptions, launch
from experiments.kill_test import make_corpus

CONFIG = override(
    make_config("recommended", "tiny"),
    {"patience": 3, "steps_per_epoch": 9, "save_every": "1steps", "generator.blocks": 0, "generator.dense_depth": 1},
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder)
    return open_corpus(CorpusSource(data=folder), CONFIG)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is being written until somebody waits for it."""
    waited_for = threading.Event()
    failure, write = CheckpointStore.failure, CheckpointStore._write

    def waiting(self: CheckpointStore, wait: bool) -> BaseException | None:
        if wait and self._writing is not None:
            waited_for.set()
        return failure(self, wait)

    def writing(self: CheckpointStore, *arguments: Any) -> None:
        waited_for.wait(60)
        write(self, *arguments)

    monkeypatch.setattr(CheckpointStore, "failure", waiting)
    monkeypatch.setattr(CheckpointStore, "_write", writing)


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.slow
def test_it_stops_with_the_last_good_checkpoint_and_the_batch(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A rate that no config may have sends every parameter to 1e15: from the second step on nothing is finite.
    monkeypatch.setattr(stepper, "rate_factor", lambda config, epoch: 1e18)
    out = tmp_path / "run"
    with pytest.raises(Diverged) as stopped:
        launch(CONFIG, corpus, RunOptions(out, devices=1), Display())
    assert stopped.value.status == 3
    assert [record["not_finite"] for record in read_kind(out, "step")] == [0, 1, 2]
    assert f"last good checkpoint:  {out / 'latest' / '1'}\n" in str(stopped.value)
    assert [path.name for path in (out / "latest").iterdir()] == ["1"]
    # Step 4 trained on the fourth batch.
    with np.load(out / "not_finite_4.npz") as aside:
        assert (aside["step"], aside["seed"]) == (4, CONFIG.seed)
        batches = pipeline.training_batches(corpus, CONFIG, start_step=3)
        for side, expected in next(batches).items():
            np.testing.assert_array_equal(aside[side], expected)
        batches.close()
        for name, clean in zip(aside["names"], aside["clean"], strict=True):
            item = next(item for item in corpus.train if item.name == name)
            assert clean[:100].tobytes() in pipeline.audio.read(item.clean).tobytes()


def test_what_is_watched() -> None:
    sound: dict[str, float] = dict.fromkeys(WATCHED, 1.0)
    assert divergence.is_finite(sound)
    for name in WATCHED:
        assert not divergence.is_finite(sound | {name: np.nan})
