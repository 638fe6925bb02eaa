"""Held-out files: which are compared, what an epoch that lacks a score is worth, and which epoch is the best."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cmgan_jax.data.pipeline import Crops
from cmgan_jax.metrics.pesq_score import Failure, Score, failed
from cmgan_jax.metrics.protocol import Scale
from cmgan_jax.metrics.scoring_pool import ScorePool
from cmgan_jax.recipes import make_config
from cmgan_jax.system import checksums
from cmgan_jax.system.outputs import write_json
from cmgan_jax.training import validation
from cmgan_jax.training.position import Position
from cmgan_jax.training.selection import improves, kept_best
from cmgan_jax.training.validation import Held, score_files, score_noisy

CONFIG = make_config("recommended", "tiny")
Outcome = float | Failure


class Pool:
    """In the place of a pool: each file, known by its first sample, has outcomes one after another; the last stays."""

    def __init__(self, *outcomes: Outcome | list[Outcome]):
        self.outcomes = [of if isinstance(of, list) else [of] for of in outcomes]
        self.limits: set[float | None] = set()
        self.asked = 0

    def score(self, clean: np.ndarray, estimate: np.ndarray, time_limit: float | None = None) -> Future[Score]:
        self.limits.add(time_limit)
        self.asked += 1
        mine = self.outcomes[int(clean[0])]
        outcome = mine.pop(0) if len(mine) > 1 else mine[0]
        future: Future[Score] = Future()
        future.set_result(failed(outcome) if isinstance(outcome, Failure) else Score(outcome, None, 0.0))
        return future


def pooled(pool: Pool) -> ScorePool:
    return cast(ScorePool, pool)


def held(count: int) -> Held:
    """Files `0`, `1`, …: clean ones hold their number and then a tone, noisy ones twice that but for a click."""
    tone = np.sin(np.arange(4_000, dtype=np.float32))
    files = []
    for i in range(count):
        clean = np.concatenate([np.full(1, i, np.float32), tone])
        files.append((str(i), clean, 2 * clean + np.eye(1, clean.size, 7 + i, dtype=np.float32)[0]))
    return Held(Crops(clean=np.zeros((1, 1), np.float32), noisy=np.zeros((1, 1), np.float32)), files)


@pytest.fixture(autouse=True)
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that changes nothing."""
    monkeypatch.setattr(validation, "enhance", lambda generator, noisy, config, networks: noisy)


def epoch(*outcomes: Outcome | list[Outcome], left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    return score_files({}, held(len(outcomes)), CONFIG, pooled(Pool(*outcomes)), left_out).summary


def test_an_epoch_that_lacks_a_score_is_incomplete_and_cannot_win() -> None:
    """2.65 is the mean of two of three files, and higher than 2.30 of all: for it lacks the worst one."""
    whole, lacking = epoch(1.2, 2.8, 2.9), epoch(Failure.timeout, 2.6, 2.7)
    assert whole["score"] == pytest.approx(2.3)
    assert (whole["complete"], whole["scored"], whole["files"], whole["unscored"]) == (True, 3, 3, {})
    assert lacking["score"] is None
    assert lacking["score_partial"] == pytest.approx(2.65)
    assert (lacking["complete"], lacking["scored"], lacking["files"]) == (False, 2, 3)
    assert lacking["unscored"] == {"0": "timeout"}
    # SI-SDR needs no scorer: it is of the same files in both.
    assert lacking["si_sdr"] == whole["si_sdr"]
    assert not improves(lacking, whole)
    assert not improves(lacking, None)
    assert improves(whole, None)
    assert improves(epoch(1.3, 2.8, 2.9), whole)
    assert not improves(whole, whole)


@pytest.mark.parametrize("failure", [Failure.timeout, Failure.worker_crash, Failure.out_of_memory])
def test_a_score_that_fails_once_is_there_at_the_second_attempt(failure: Failure) -> None:
    found = epoch([failure, 1.2], 2.8)
    assert (found["score"], found["complete"]) == (2.0, True)
    pool = Pool(failure, 2.8)
    score_files({}, held(2), CONFIG, pooled(pool))
    assert pool.asked == 3


def test_a_file_that_cannot_be_scored_is_left_out_of_every_epoch() -> None:
    """Otherwise no epoch would ever be complete. Of the noisy files, too, both means are of the others alone."""
    pool = Pool(2.0, Failure.no_utterances, 3.0)
    files = held(3)
    noisy = score_noisy(files, CONFIG, pooled(pool))
    assert (noisy["score"], noisy["scored"], noisy["files"]) == (2.5, 2, 3)
    assert noisy["unscored"] == {"1": "no_utterances"}
    found = epoch(2.2, Failure.no_utterances, 3.2, left_out=tuple(noisy["unscored"]))
    assert found["score"] == pytest.approx(2.7)
    assert (found["complete"], found["scored"], found["files"], found["unscored"]) == (True, 2, 2, {})
    # The generator changes nothing, so SI-SDR is that of the noisy files: of the same two.
    assert found["si_sdr"] == noisy["si_sdr"] != epoch(2.2, 2.2, 3.2)["si_sdr"]


def test_the_files_that_are_shown_are_enhanced_also_where_they_are_left_out() -> None:
    shown = score_files({}, held(3), CONFIG, pooled(Pool(2.0, 2.0, 2.0)), ("0", "1")).enhanced
    assert set(shown) == {"0", "2"}


def test_where_no_file_can_be_scored_there_is_no_best_epoch() -> None:
    noisy = score_noisy(held(2), CONFIG, pooled(Pool(Failure.no_utterances, Failure.silent_reference)))
    assert (noisy["score"], noisy["scored"]) == (None, 0)
    found = epoch(2.0, 2.0, left_out=("0", "1"))
    assert (found["score"], found["complete"], found["files"]) == (None, False, 0)
    assert not improves(found, None)


def test_whole_files_have_the_time_that_evaluation_gives_them() -> None:
    """Expected: 300 s, as `experiments.evaluate`; the run's limit of 10 s is for crops of 2 s."""
    pool = Pool(2.0)
    score_noisy(held(1), CONFIG, pooled(pool))
    assert pool.limits == {300.0}


def scores(pesq: float, number: int, **other: Any) -> dict[str, Any]:
    return {
        "score": pesq,
        "pesq": pesq,
        "scored": 3,
        "files": 3,
        "unscored": {},
        "complete": True,
        "epoch": number,
    } | other


def keep(folder: Path, step: int, best: dict[str, Any] | None) -> Path:
    """A checkpoint in `best`, as far as its record goes."""
    checkpoint = folder / "best" / str(step)
    (checkpoint / "run").mkdir(parents=True)
    write_json(checkpoint / "run" / "metadata", {"position": {"best": best}})
    checksums.write(checkpoint)
    return checkpoint


def test_the_best_is_what_its_own_checkpoint_says(tmp_path: Path) -> None:
    """Whatever a later checkpoint names: what could not be written, was deleted or damaged does not count."""
    kept, named = scores(2.5, 2), scores(2.9, 4)
    best, said = kept_best(tmp_path, Position(step=60, best=named), 3)
    assert best is None
    assert "lacks the best model so far, of epoch 4 (PESQ 2.900): there is none" in said
    keep(tmp_path, 20, kept)
    best, said = kept_best(tmp_path, Position(step=60, best=named), 3)
    assert best == kept
    assert "there is that of epoch 2" in said
    assert kept_best(tmp_path, Position(step=60, best=kept), 3) == (kept, "")
    checkpoint = keep(tmp_path, 40, named)
    assert kept_best(tmp_path, Position(step=60, best=named), 3) == (named, "")
    # One of a later step comes again.
    assert kept_best(tmp_path, Position(step=30, best=kept), 3) == (kept, "")
    (checkpoint / "run" / "metadata").write_text("{}")
    best, said = kept_best(tmp_path, Position(step=60, best=named), 3)
    assert best == kept
    assert "there is that of epoch 2" in said


@pytest.mark.parametrize(
    ("best", "unscored", "counts"),
    [
        (scores(2.5, 2, scored=2, unscored={"a": "timeout"}), {}, False),
        (scores(2.5, 2, scored=2, unscored={"a": "timeout"}), {"b": "timeout"}, False),
        (scores(2.5, 2, scored=2, unscored={"a": "silent_reference"}), {"a": "silent_reference"}, True),
        (scores(2.5, 2, scored=2, files=2), {"a": "silent_reference"}, True),
        (scores(2.5, 2), {"a": "silent_reference"}, False),
    ],
)
def test_what_earlier_revisions_recorded_counts_if_it_is_of_the_same_files(
    tmp_path: Path, best: dict[str, Any], unscored: dict[str, str], counts: bool
) -> None:
    """They took the mean of whatever could be scored."""
    keep(tmp_path, 20, best)
    position = Position(step=60, best=best, noisy={"unscored": unscored})
    found, said = kept_best(tmp_path, position, 3)
    assert found == (best if counts else None)
    assert bool(said) != counts


def test_the_best_epoch_of_an_earlier_version_is_that_by_pesq(tmp_path: Path) -> None:
    """Its record has `pesq` alone."""
    earlier = scores(2.5, 2)
    del earlier["score"]
    keep(tmp_path, 20, earlier)
    saved = Position(step=60, best=earlier, noisy={"pesq": 2.0, "unscored": {}}).to_dict()
    saved["window"] = {"sums": {"pesq": 2.5, "pesq_wait_ms": 3.0}, "counts": {"pesq": 1, "pesq_wait_ms": 1}}
    position = Position.from_dict(saved)
    assert position.window.summary() == {"score": 2.5, "score_wait_ms": 3.0, "failures": {}}
    assert (position.noisy or {})["score"] == 2.0
    best, said = kept_best(tmp_path, position, 3)
    assert (best, said) == (scores(2.5, 2), "")
    assert improves(scores(2.6, 3), best)


def test_where_lower_is_better_the_lowest_epoch_wins() -> None:
    lower = Scale("distance", 0.0, 1.0, higher_is_better=False)
    assert improves(scores(2.4, 3), scores(2.5, 2), lower)
    assert not improves(scores(2.6, 3), scores(2.5, 2), lower)
    assert not improves(scores(2.5, 3), scores(2.5, 2), lower)


def test_pesq_is_measured_beside_another_metric() -> None:
    """Of the files that it can score as they are; it has no say in which epoch is complete."""

    class Two(Pool):
        def score(self, clean: np.ndarray, estimate: np.ndarray, time_limit: float | None = None, metric: str = "stoi"):
            return (beside if metric == "pesq" else super()).score(clean, estimate, time_limit)

    stoi = Scale("stoi", 0.0, 1.0)
    beside = Pool(2.0, Failure.no_utterances, 3.0)
    noisy = score_noisy(held(3), CONFIG, pooled(Two(0.5, 0.6, 0.7)), stoi)
    assert (noisy["score"], noisy["scored"], noisy["unscored"]) == (pytest.approx(0.6), 3, {})
    assert (noisy["pesq"], noisy["pesq_unscored"]) == (2.5, {"1": "no_utterances"})
    found = score_files({}, held(3), CONFIG, pooled(Two(0.6, 0.7, 0.8)), (), stoi, noisy["pesq_unscored"]).summary
    assert (found["score"], found["complete"], found["pesq"]) == (pytest.approx(0.7), True, 2.5)
    beside = Pool(2.0, 2.0, Failure.timeout)
    found = score_files({}, held(3), CONFIG, pooled(Two(0.6, 0.7, 0.8)), (), stoi, noisy["pesq_unscored"]).summary
    assert (found["score"], found["complete"], found["pesq"]) == (pytest.approx(0.7), True, None)
    found = score_files({}, held(3), CONFIG, pooled(Two(0.6, Failure.timeout, 0.8)), (), stoi).summary
    assert (found["score"], found["complete"], found["score_partial"]) == (None, False, pytest.approx(0.7))


def test_imported_weights_have_no_epoch_to_compare_with(tmp_path: Path) -> None:
    keep(tmp_path, 20, None)
    assert kept_best(tmp_path, Position(step=20), 3) == (None, "")
