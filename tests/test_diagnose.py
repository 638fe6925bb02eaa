"""The diagnosis as a program: logs of every kind in, findings, status and a page out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_logs import (
    COLLAPSING,
    Training,
    converged,
    epoch_csv,
    exact,
    ordinary,
    six,
    skipped,
    step_csv,
    text_log,
    training,
)

from cmgan_jax.diagnosis import origin
from cmgan_jax.diagnosis.evidence import findings
from cmgan_jax.diagnosis.finding import CODES
from cmgan_jax.diagnosis.history import METRICS
from cmgan_jax.diagnosis.page import build
from cmgan_jax.diagnosis.published_training import read_history
from cmgan_jax.diagnosis.report import collapsed, document
from cmgan_jax.errors import UserError
from cmgan_jax.training.divergence import set_aside

ROOT = Path(__file__).resolve().parents[1]


def store(folder: Path, of: Training, form: str) -> Path:
    """A training's log: text in either precision, or a folder of both CSV logs."""
    if form == "csv":
        (folder / "step.csv").write_text(step_csv(of))
        (folder / "epoch.csv").write_text(epoch_csv(of))
        return folder
    path = folder / "train.log"
    path.write_text(text_log(of, {"exact": exact, "six": six}[form], devices=2))
    return path


def diagnosis(path: Path) -> dict[str, Any]:
    return document(read_history([path]))


def codes(content: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in content["findings"]]


@pytest.mark.parametrize("form", ["exact", "six", "csv"])
@pytest.mark.parametrize(
    ("losses", "code", "zero", "small"),
    [
        (ordinary(12), "healthy", 0, 0),
        (converged(12), "discriminator_converged", 0, 34 / 60),  # 56 % of 60 are 34
        (skipped(12), "skipped_updates", 34 / 60, 34 / 60),
    ],
)
def test_logs_of_the_published_trainer(
    form: str, losses: np.ndarray, code: str, zero: float, small: float, tmp_path: Path
):
    content = diagnosis(store(tmp_path, training(losses), form))
    assert codes(content) == [code]
    assert content["shares"]["disc_loss_zero"] == pytest.approx(zero)
    assert content["shares"]["disc_loss_under_1e-3"] == pytest.approx(small)
    assert not collapsed(content)
    assert len(content["epochs"]) == 12


def test_skipped_and_converged_at_once(tmp_path: Path) -> None:
    """Half of the updates left out, and most of the others small."""
    losses = converged(12, 0.8)
    losses[:, ::2] = 0.0
    assert codes(diagnosis(store(tmp_path, training(losses), "exact"))) == [
        "skipped_updates",
        "discriminator_converged",
    ]


def test_the_account_s_log(tmp_path: Path) -> None:
    """56 % of the losses under 0.001 and none of them 0: nothing was skipped, and PESQ collapsed all the same."""
    content = diagnosis(store(tmp_path, training(converged(12), COLLAPSING), "csv"))
    assert codes(content) == ["pesq_collapse", "loss_pesq_divergence", "discriminator_converged"]
    assert collapsed(content)
    assert content["shares"]["disc_loss_zero"] == 0
    assert content["shares"]["disc_loss_lowest_not_zero"] == pytest.approx(3e-6)
    assert content["shares"]["disc_loss_highest"] == pytest.approx(0.063)
    assert "since epoch 7" in content["findings"][0]["text"]


def test_failing_samples_from_skipped_batches(tmp_path: Path) -> None:
    """A batch of 4 is skipped unless all score: 1 - (1 - p) ^ 4 = 0.56 has p = 0.1856."""
    content = diagnosis(store(tmp_path, training(skipped(20)), "exact"))
    assert content["shares"]["disc_loss_zero"] == pytest.approx(0.56)
    assert content["failing_samples_if_batch"]["4"] == pytest.approx(0.1856, abs=5e-5)
    assert content["failing_samples_if_batch"]["1"] == pytest.approx(0.56)


@pytest.mark.parametrize("of", [ordinary(1), skipped(1), converged(1)])
def test_three_lines_are_too_little(of: np.ndarray, tmp_path: Path) -> None:
    lines = text_log(training(of)).splitlines(keepends=True)[1:4]
    (tmp_path / "short.log").write_text("".join(lines))
    assert codes(diagnosis(tmp_path / "short.log")) == ["too_little_data"]


def test_a_torn_log_is_judged_by_what_is_whole(tmp_path: Path) -> None:
    text = text_log(training(skipped(12)), exact)
    (tmp_path / "torn.log").write_text(text[: text.rindex("disc_loss: ") + len("disc_loss: 0.")])
    content = diagnosis(tmp_path / "torn.log")
    assert codes(content) == ["skipped_updates"]
    assert content["shares"]["disc_loss_count"] == 59
    assert "1 torn line was left out" in content["source"]["notes"]


def test_losses_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    of = training(ordinary(12))
    of.generator[5, 2] = np.nan
    content = diagnosis(store(tmp_path, of, "exact"))
    assert codes(content) == ["non_finite"]
    assert "epoch 5, step 1500" in content["findings"][0]["text"]


# --- defects -----------------------------------------------------------------------------------------------


def stands(of: Training, form: str, folder: Path) -> dict[str, str]:
    return {found.defect[:12]: found.stand for found in findings(read_history([store(folder, of, form)]))}


def test_a_loss_below_the_floor_speaks_against_the_unnormalised_time_loss(tmp_path: Path) -> None:
    low = training(ordinary(12))
    assert stands(low, "csv", tmp_path)["the time los"] == "against"
    high = Training(low.discriminator, low.generator + 0.06, low.validation + 0.06, low.pesq)
    assert stands(high, "csv", tmp_path)["the time los"] == "compatible"


def test_batches_that_come_again_show(tmp_path: Path) -> None:
    """The same five losses in every epoch, but for noise: the order of the files is the same."""
    of = training(ordinary(12))
    assert "every epoch " not in stands(of, "exact", tmp_path)
    same = np.array([0.02, -0.01, 0.0, -0.02, 0.01])
    assert (
        stands(Training(of.discriminator, of.generator + same, of.validation, of.pesq), "exact", tmp_path)[
            "every epoch "
        ]
        == "shown"
    )


def test_selection_by_loss_is_seen_in_the_marks(tmp_path: Path) -> None:
    assert stands(training(ordinary(12), COLLAPSING), "csv", tmp_path)["the model is"] == "shown"
    assert "the model is" not in stands(training(ordinary(12)), "csv", tmp_path)


# --- runs of this project ----------------------------------------------------------------------------------


def make_run(folder: Path, **numbers: Any) -> Path:
    folder.mkdir()
    usual = {"generator_loss": 0.06, "discriminator_loss": 0.02, "discriminator_update": 1.0, "failures": {}}
    records = [{"kind": "step", "step": 10 * i, "epoch": 1 + i // 10} | usual | numbers for i in range(1, 40)]
    records += [{"kind": "epoch", "step": 400, "epoch": 4, "validation": {"pesq": 2.4, "loss": 0.05}, "best": True}]
    (folder / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))
    config = {"recipe": "published_2022", "batch": 16, "targets": {"policy": "skip"}}
    (folder / "run.json").write_text(json.dumps({"config": config}))
    return folder


def test_a_run_is_judged_by_its_records_and_its_numbers(tmp_path: Path) -> None:
    content = diagnosis(make_run(tmp_path / "run", discriminator_update=0.8, valid_share=0.98, failures={"timeout": 1}))
    assert codes(content) == ["skipped_updates", "scores_failing"]
    assert "policy skip" in content["findings"][0]["text"]
    assert "timeout 39" in content["findings"][1]["text"]
    assert content["shares"]["disc_loss_zero"] == pytest.approx(0.2)
    assert content["source"]["recipe"] == "published_2022"
    assert [row["epoch"] for row in content["epochs"]] == [1, 2, 3, 4]


def test_a_run_that_is_being_written_has_a_torn_line(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with (folder / METRICS).open("a") as file:
        file.write('{"kind": "step", "st')
    content = diagnosis(folder / METRICS)  # its records may be named, too
    assert codes(content) == ["healthy"]
    assert content["source"]["notes"] == ["1 torn line of metrics.jsonl left out"]


def test_records_that_say_that_something_is_wrong(tmp_path: Path) -> None:
    """Both networks: 1080 steps were not finite, and nine of ten of the discriminator's updates were left out."""
    content = diagnosis(
        make_run(tmp_path / "run", not_finite=1080, discriminator_update=0.1, discriminator_loss_zero=0)
    )
    assert codes(content) == ["non_finite"]
    assert "1080 steps" in content["findings"][0]["text"]
    assert "90.00% of the discriminator's updates" in content["findings"][0]["text"]


def test_a_run_that_stopped_for_it_is_no_healthy_one(tmp_path: Path) -> None:
    """Its last window is not recorded: what is left is the batch that was set aside."""
    folder = make_run(tmp_path / "run")
    set_aside(folder, {"clean": np.zeros((1, 2))}, step=412)
    content = diagnosis(folder)
    assert codes(content) == ["non_finite"]
    assert "stopped at step 412" in content["findings"][0]["text"]


def test_epochs_show_how_many_files_were_scored(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    part = {
        "kind": "epoch",
        "step": 500,
        "epoch": 5,
        "validation": {"pesq": 3.4, "scored": 2, "files": 6, "loss": 0.05},
    }
    with (folder / METRICS).open("a") as file:
        file.write(json.dumps(part) + "\n")
    content = diagnosis(folder)
    assert codes(content) == ["scores_failing"]
    # 2.4 in epoch 4 is of all files that the record names, 3.4 of two of six.
    assert [row["pesq"] for row in content["epochs"]] == [None, None, None, 2.4, None]
    assert content["epochs"][-1]["files_scored"] == pytest.approx(1 / 3)
    assert describe_best(folder) == 4


def describe_best(folder: Path) -> int:
    """The epoch that `inspect` calls the best."""
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"provenance": {}}))
    return origin.describe(folder)["best"]["epoch"]


def test_losses_of_epochs_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    """In a CSV log of epochs alone, which counts them from 0: neither network's step is in it."""
    of = training(ordinary(12))
    of.validation[4] = np.nan
    (tmp_path / "epoch.csv").write_text(epoch_csv(of))
    content = diagnosis(tmp_path / "epoch.csv")
    assert codes(content) == ["non_finite"]
    assert "the validation loss is no finite number in epoch 4" in content["findings"][0]["text"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_history([tmp_path / "absent"])
    with pytest.raises(UserError, match="diagnosed alone"):
        read_history([make_run(tmp_path / "run"), tmp_path])
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_history([tmp_path / "run"])


# --- the program -------------------------------------------------------------------------------------------


def program(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "experiments.diagnose", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.subprocess
def test_the_program(tmp_path: Path) -> None:
    path = store(tmp_path, training(converged(12), COLLAPSING), "csv")
    page = tmp_path / "page.html"
    done = program(path, "--json", "--page", page)
    assert (done.returncode, done.stderr) == (3, "")
    assert codes(json.loads(done.stdout))[0] == "pesq_collapse"
    assert "pesq_collapse" in page.read_text()
    words = program(path)
    assert words.returncode == 3
    assert words.stdout.startswith("pesq_collapse\n")
    for part in (
        "Of 60 logged discriminator losses",
        "56.7% are under 0.001",
        "What this cannot tell",
        "learnt, not skip",
    ):
        assert part in words.stdout


def test_names_are_text_on_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x>"
    folder.mkdir()
    history = read_history([store(folder, training(skipped(12)), "csv")])
    page = build(history, document(history))
    assert "&lt;img src=x&gt;" in page
    assert "<img" not in page
    # A curve of PESQ, of both losses by epoch, and of each by step.
    assert page.count("<svg") == 4


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "nothing to diagnose"),
        (("absent.log",), 2, "absent.log: no such file"),
        ((ROOT / "pyproject.toml",), 2, "no line of a training log"),
    ],
)
@pytest.mark.subprocess
def test_what_a_user_can_mend(words: tuple[str | Path, ...], status: int, said: str) -> None:
    done = program(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.subprocess
def test_codes_are_listed() -> None:
    done = program("--codes")
    assert done.returncode == 0
    assert all(code in done.stdout for code in CODES)
    page = (ROOT / "docs/metrics-and-diagnosis.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in page] == []
