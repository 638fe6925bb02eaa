"""Runs that train on another metric than PESQ: what they record and report, and that nothing there says PESQ."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import make_pairs
from test_records import events

from cmgan_jax.cli.train import closing, parse, refuse
from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.data.corpus import Corpus, CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.origin import describe
from cmgan_jax.diagnosis.report import document
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.metrics.registry import find_metric
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs import records
from cmgan_jax.runs.folder import ABOUT, Checkpoint, read_about, read_run, steps_in
from cmgan_jax.runs.records import read_kind
from cmgan_jax.system import checksums
from cmgan_jax.system.outputs import write_json
from cmgan_jax.training.display import Display
from cmgan_jax.training.hosts import ALONE
from cmgan_jax.training.launch import RunOptions, launch
from cmgan_jax.training.loop import Outcome

CONFIG = override(
    make_config("recommended", "tiny"),
    {
        # Without conformers: quick to compile. STOI needs 0.4 s of speech.
        "generator.blocks": 0,
        "generator.dense_depth": 1,
        "data.crop_seconds": 1.0,
        "steps_per_epoch": 2,
        "epochs": 2,
        "log_every": 1,
        "targets.workers": 1,
    },
)
DISTANCE = """
import numpy as np

class Distance:
    name, low, high, unit, higher_is_better = "distance", 0.0, 20.0, "Pa", False

    def score(self, clean, estimate, sample_rate):
        return float(np.sqrt(np.mean((clean - estimate) ** 2)))

distance = Distance()
"""


class Listener(Display):
    """Keeps what a person reads."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return open_corpus(CorpusSource(data=make_pairs(tmp_path_factory.mktemp("corpus"), 3)), CONFIG)


def train(corpus: Corpus, out: Path, display: Display | None = None, resume: bool = False, **numbers: Any) -> Outcome:
    config = override(CONFIG, {name.replace("__", "."): value for name, value in numbers.items()})
    return launch(config, corpus, RunOptions(out, devices=1, resume=resume), display or Listener())


def page_without(out: Path, chart: str) -> str:
    """The report without the picture of that title, and without recordings and pictures, whose letters are chance."""
    figures = re.compile(r"<figure.*?</figure>", re.DOTALL)
    page = re.sub(r"data:[a-z]+/[a-z]+;base64,[A-Za-z0-9+/=]+", "", (out / "report.html").read_text())
    assert [figure for figure in figures.findall(page) if chart in figure]
    return figures.sub(lambda figure: "" if chart in figure[0] else figure[0], page)


@pytest.fixture(scope="module")
def stoi(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, Listener]:
    out, listener = tmp_path_factory.mktemp("stoi") / "run", Listener()
    return out, train(corpus, out, listener, targets__metric="stoi"), listener


def test_records_of_a_run_on_stoi_are_of_stoi(stoi: tuple[Path, Outcome, Listener]) -> None:
    out, outcome, _ = stoi
    assert read_about(out)["target_metric"] == {
        "name": "stoi",
        "low": 0.0,
        "high": 1.0,
        "unit": "",
        "higher_is_better": True,
    }
    steps, epochs = read_kind(out, "step"), read_kind(out, "epoch")
    assert len(steps) == 4
    for numbers in (*steps, *(epoch["train"] for epoch in epochs)):
        # PESQ would be 1 at least.
        assert -1 < numbers["score"] < 1
        assert "score_wait_ms" in numbers
        assert not [name for name in numbers if "pesq" in name]
    for epoch in epochs:
        validation, noisy = epoch["validation"], epoch["noisy"]
        assert validation["complete"]
        assert 0 < noisy["score"] < 1 < noisy["pesq"] < 4.65
        assert -1 < validation["score"] < 1 < validation["pesq"] < 4.65
        assert noisy["pesq_unscored"] == {}
        # True scores as targets: STOI as it is.
        assert all(-1 < target < 1 for target in validation["score_targets"])
    assert outcome.best is not None
    assert outcome.best["score"] == max(epoch["validation"]["score"] for epoch in epochs)
    assert outcome.scale == Scale("stoi", 0.0, 1.0)


def test_what_a_person_reads_of_a_run_on_stoi_says_stoi(stoi: tuple[Path, Outcome, Listener]) -> None:
    out, outcome, listener = stoi
    said = "\n".join(listener.said)
    assert re.search(r"epoch 2/2: STOI 0?-?\d\.\d{3} on \d of \d held-out files, PESQ \d\.\d{3}", said)
    assert "STOI of estimates" in said
    assert "waiting for STOI" in said
    assert "PESQ" not in re.sub(r"held-out files, PESQ \d\.\d{3}", "", said)
    assert re.search(r"STOI 0\.\d\d -> .*PESQ 1\.\d\d -> .*SI-SDR", closing(outcome, out))
    page = page_without(out, "Validation PESQ")
    assert "pesq" not in page.lower()
    for words in ("Validation STOI", "Rank correlation with true STOI", "Predicted against true STOI", "best STOI"):
        assert words in page
    assert "The targets 0 and 1 are a STOI of 0 and 1." in page
    assert "pesq" not in (out / "health.json").read_text().lower()


def test_curves_of_a_run_on_stoi_have_its_name(stoi: tuple[Path, Outcome, Listener]) -> None:
    tags = {value.tag for event in events(stoi[0]) for value in event.summary.value}
    assert {"step/stoi", "step/score_wait_ms", "epoch/validation/stoi", "epoch/noisy/stoi"} <= tags
    # Beside it, where it is PESQ.
    assert {tag for tag in tags if "pesq" in tag} == {"epoch/validation/pesq", "epoch/noisy/pesq"}


def test_the_diagnosis_and_the_origin_of_a_run_on_stoi_say_stoi(stoi: tuple[Path, Outcome, Listener]) -> None:
    content = document(History.from_run(stoi[0]))
    assert content["source"]["target_metric"]["name"] == "stoi"
    assert [set(row) & {"pesq", "score"} for row in content["epochs"]] == 2 * [{"score"}]
    assert "pesq" not in json.dumps(content).lower()
    found = describe(stoi[0])
    assert found["target_metric"]["name"] == "stoi"
    assert found["best"]["score"] < 1 < found["best"]["pesq"]
    assert found["noisy_score"] < 1 < found["noisy_pesq"]


def test_a_run_goes_on_with_its_own_metric_alone(
    corpus: Corpus, stoi: tuple[Path, Outcome, Listener], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(stoi[0], out)
    with pytest.raises(UserError, match=r"targets\.metric: the run has 'stoi', asked for 'pesq'"):
        train(corpus, out, resume=True, epochs=3)
    for kind in ("latest", "best"):
        for step in steps_in(out / kind):
            # As if the metric had had another range when the run began.
            rewrite(Checkpoint(out, kind, step), lambda run: run["target_metric"].update(high=2.0))
    with pytest.raises(UserError, match=r"target metric: the run has .*'high': 2\.0.*former range and unit"):
        train(corpus, out, resume=True, epochs=3, targets__metric="stoi")


def rewrite(checkpoint: Checkpoint, change: Any) -> None:
    """Change the record that a checkpoint holds."""
    path, run = Path(str(checkpoint)), read_run(checkpoint)
    change(run)
    write_json(path / "run" / "metadata", run)
    (path / checksums.NAME).unlink()
    checksums.write(path)


def test_a_metric_of_one_s_own_is_trained_on(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower is better: the best epoch is the one with the lowest score, and targets lie between 0 and 1."""
    (tmp_path / "distance_metric.py").write_text(DISTANCE)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    arguments = parse(["--out", str(out), "--targets.metric", "distance_metric:distance"])
    check(arguments.config)
    refuse(arguments, RunOptions(out), ALONE)
    outcome = train(corpus, out, targets__metric=arguments.config.targets.metric)
    epochs = read_kind(out, "epoch")
    scores = [epoch["validation"]["score"] for epoch in epochs]
    assert outcome.best is not None
    assert outcome.best["score"] == min(scores)
    assert [epoch["best"] for epoch in epochs] == [True, scores[1] < scores[0]]
    for epoch in epochs:
        assert all(0 < target < 1 for target in epoch["validation"]["score_targets"])
        assert epoch["train"]["valid_share"] == 1
    page = page_without(out, "Validation PESQ")
    assert "pesq" not in page.lower()
    assert "Predicted against true distance" in page
    assert "true, Pa" in page
    assert "Lower is better." in page


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("stoy", "one of pesq, stoi, .*my_module:my_metric"),
        ("no_such_module:metric", "the module no_such_module cannot be imported.*PYTHONPATH"),
        ("cmgan_jax.metrics:Scale", "Scale.* raised TypeError.*without arguments"),
    ],
)
def test_a_metric_that_cannot_work_is_refused_before_anything_trains(
    corpus: Corpus, tmp_path: Path, metric: str, reason: str
) -> None:
    out = tmp_path / "run"
    arguments = parse(["--out", str(out), "--targets.metric", metric])
    with pytest.raises(UserError, match=reason):
        refuse(arguments, RunOptions(out), ALONE)
    with pytest.raises(UserError, match=reason):
        train(corpus, out, targets__metric=metric)
    assert not out.exists()


def as_earlier(numbers: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a record as versions wrote them that trained on PESQ alone."""
    old = {
        "score": "pesq",
        "score_wait_ms": "pesq_wait_ms",
        "score_targets": "pesq_targets",
        "clean_score": "clean_verdict",
    }
    kept = {name: value for name, value in numbers.items() if name != "pesq"}
    return {old.get(name, name): value for name, value in kept.items()}


def test_a_run_of_an_earlier_version_is_read_and_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    """Expected: what the same run has that this version began, but for the clock."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    train(corpus, whole, epochs=2)
    train(corpus, out, epochs=1)

    def old_position(run: dict[str, Any]) -> None:
        run.pop("target_metric")
        run["config"]["targets"].pop("metric")
        position = run["position"]
        for name in ("best", "noisy"):
            position[name] = as_earlier(position[name])
        for name in ("window", "epoch"):
            position[name] |= {part: as_earlier(position[name][part]) for part in ("sums", "counts")}

    for kind in ("latest", "best"):
        for step in steps_in(out / kind):
            rewrite(Checkpoint(out, kind, step), old_position)
    about = read_about(out)
    about.pop("target_metric")
    about["config"]["targets"].pop("metric")
    write_json(out / ABOUT, about)
    lines = []
    for record in read_kind(out):
        sections = {name: as_earlier(record[name]) for name in ("train", "validation", "noisy") if name in record}
        lines.append(json.dumps((as_earlier(record) if record["kind"] == "step" else record) | sections))
    (out / records.METRICS).write_text("\n".join(lines) + "\n")
    assert "score" not in (out / records.METRICS).read_text().replace("scored", "").replace("unscored", "")

    before = History.from_run(out)
    assert before.metric == PESQ
    assert np.isfinite(before.score).tolist() == [True]
    assert describe(out)["best"]["pesq"] == before.score[0]
    train(corpus, out, resume=True, epochs=2)
    # Findings depend on the clock: how long the scores were waited for.
    one, other = (
        [record for record in records.read(folder)[0] if record["kind"] in ("step", "epoch")] for folder in (out, whole)
    )
    for mine, expected in zip(one, other, strict=True):
        assert without_timing(mine) == without_timing(expected)
    page = (out / "report.html").read_text()
    assert "best PESQ" in page
    assert "Predicted against true PESQ" in page


def without_timing(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: without_timing(of) for name, of in value.items() if not name.endswith(("_ms", "crops_per_second"))
        }
    return value


def test_every_built_in_metric_makes_a_config_that_is_accepted() -> None:
    for name in ("pesq", "stoi", "estoi", "si_sdr", "csig", "cbak", "covl"):
        check(override(Config(), {"targets.metric": name}))
        assert find_metric(name).name == name
