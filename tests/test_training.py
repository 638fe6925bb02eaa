"""A run from beginning to end: what it writes, that a stop loses nothing, what each policy does with failed scores."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import make_pairs

from cmgan_jax.cli.train import find_corpus, parse
from cmgan_jax.config import Config
from cmgan_jax.data import audio
from cmgan_jax.data.corpus import Corpus, CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config, override, to_dict
from cmgan_jax.runs.folder import Checkpoint, find, steps_in
from cmgan_jax.runs.records import read_kind
from cmgan_jax.system import progress as patience
from cmgan_jax.training import loop
from cmgan_jax.training.display import Display, Progress
from cmgan_jax.training.launch import RunOptions, launch, refuse_other_division
from cmgan_jax.training.loop import Outcome
from cmgan_jax.training.stepper import Stepper

CONFIG = override(
    make_config("recommended", "tiny"),
    {"steps_per_epoch": 3, "log_every": 2, "health.adversarial_every": 3, "generator.dense_depth": 1},
)
TIMING = ("_ms", "crops_per_second")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pairs of four synthesised speakers, in the layout of VoiceBank+DEMAND."""
    return make_pairs(tmp_path_factory.mktemp("corpus"), 4)


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return open_corpus(CorpusSource(data=folder), CONFIG)


class Stopper(Display):
    """Sends SIGTERM to this very process when a step's numbers are shown."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def show(self, progress: Progress) -> None:
        super().show(progress)
        if progress.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def train(
    corpus: Corpus, out: Path, config: Config = CONFIG, display: Display | None = None, **options: Any
) -> Outcome:
    return launch(config, corpus, RunOptions(out, **options), display or Display())


class Witness(Display):
    """Writes down what happens, in order: steps that begin and are shown, held-out files that are scored."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        super().note(text)
        self.notes.append(text)

    def show(self, progress: Progress) -> None:
        super().show(progress)
        self.events.append(f"{progress.step} shown")

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        step, score_files, score_noisy = Stepper.__call__, loop.score_files, loop.score_noisy

        def watched_step(stepper: Stepper, batch: Any, done: int, epoch: int, following: Any) -> Any:
            self.events.append(f"{done + 1} begins")
            if following is not None:
                self.events.append("looks ahead")
            return step(stepper, batch, done, epoch, following)

        def watched(event: str, score: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments: (self.events.append(event), score(*arguments))[1]

        patch.setattr(Stepper, "__call__", watched_step)
        patch.setattr(loop, "score_noisy", watched("noisy scored", score_noisy))
        patch.setattr(loop, "score_files", watched("enhanced scored", score_files))


@pytest.fixture(scope="module")
def witness() -> Witness:
    return Witness()


@pytest.fixture(scope="module")
def whole(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory, witness: Witness) -> Path:
    """A run that was not interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        witness.watch(patch)
        patch.setattr(patience, "FIRST_SECONDS", 0.1)
        outcome = train(corpus, out, devices=2, display=witness)
    assert (outcome.interrupted, outcome.step) == (None, 6)
    return out


def without_timing(records: list[dict[str, Any]]) -> Any:
    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if not k.endswith(TIMING)}
        return value

    # Findings on waits are the clock's, too; events are of a process, not of the run.
    own = [record for record in records if record["kind"] != "event"]
    return [strip(record) for record in own if not record.get("code", "").endswith("_wait")]


@pytest.mark.slow
def test_nothing_is_waited_for_that_could_come_later(whole: Path, witness: Witness) -> None:
    """Expected: the first step is shown at once, later ones when the next is under way; noisy files are scored late.

    Steps look ahead, but for the first, which somebody waits for, and an epoch's last, which is followed by validation.
    """
    assert witness.events == [
        *(
            "1 begins",
            "1 shown",
            "2 begins",
            "looks ahead",
            "3 begins",
            "2 shown",
            "3 shown",
            "noisy scored",
            "enhanced scored",
        ),
        *(
            "4 begins",
            "looks ahead",
            "5 begins",
            "looks ahead",
            "4 shown",
            "6 begins",
            "5 shown",
            "6 shown",
            "enhanced scored",
        ),
    ]


@pytest.mark.slow
def test_what_takes_long_is_said(whole: Path, witness: Witness) -> None:
    """A tenth of a second counts as long here; the first step and a validation take more."""
    told = {note.partition(" (")[0] for note in witness.notes if note.endswith("s so far)")}
    assert "compiling the step's programs" in told
    assert any(words.startswith("validating") for words in told)


@pytest.mark.slow
def test_every_number_of_a_record_is_documented(whole: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/metrics-and-diagnosis.md").read_text()
    names = {name for record in read_kind(whole) for name in record}
    for record in read_kind(whole, "epoch"):
        names |= {*record["train"], *record["validation"], *record["noisy"]}
    assert "loss_ri" in names
    assert sorted(name for name in names if f"`{name}`" not in page) == []


@pytest.mark.slow
def test_a_run_writes_what_it_should(whole: Path) -> None:
    about = json.loads((whole / "run.json").read_text())
    assert about["config"]["recipe"] == "recommended"
    assert set(about["provenance"]) >= {"versions", "source", "data", "device"}
    assert len(about["provenance"]["data"]["fingerprint"]) == 64
    # 3 steps an epoch, a record every 2 steps: at 2, 4 and 6, and one an epoch.
    assert [record["step"] for record in read_kind(whole, "step")] == [2, 4, 6]
    epochs = read_kind(whole, "epoch")
    assert [record["step"] for record in epochs] == [3, 6]
    for record in epochs:
        assert re.fullmatch("[0-9a-f]{64}", record["generator_digest"])
        assert record["train"]["valid_share"] == 1.0
        assert record["train"]["discriminator_update"] == 1.0
        assert record["validation"]["scored"] == record["validation"]["files"] == 2
        assert record["train"]["not_finite"] == 0
        assert record["train"]["discriminator_loss_min"] <= record["train"]["discriminator_loss"]
        assert -1 <= record["train"]["rank_correlation"] <= 1
        validation = record["validation"]
        assert np.isfinite([validation[name] for name in ("score", "pesq", "si_sdr", "loss")]).all()
        # Of the crops of two held-out files, those that could be scored.
        difference = np.array(validation["predicted"]) - np.array(validation["score_targets"])
        assert 1 <= difference.size <= 2
        assert validation["calibration_bias"] == pytest.approx(np.mean(difference))
        assert validation["calibration_error"] == pytest.approx(np.mean(np.abs(difference)))
    # Asked in steps 3 and 6, the last of each epoch. Records end at 2, 4 and 6; the epoch's end came before 3's.
    asked = [0 < record.get("adversarial_share", 0) < 1 for record in read_kind(whole, "step")]
    assert asked == [False, False, True]
    assert all(-1 < record["train"]["adversarial_cosine"] < 1 for record in epochs)
    assert epochs[0]["generator_digest"] != epochs[1]["generator_digest"]
    assert list((whole / "tensorboard").iterdir())
    assert json.loads((whole / "health.json").read_text())["step"] == 6
    assert "epoch 2 of 2" in (whole / "report.html").read_text()
    # Noisy, clean and two epochs of the two held-out files.
    assert len(list((whole / "report").iterdir())) == 8
    assert steps_in(whole / "latest") == [3, 6]
    best = max(epochs, key=lambda record: record["validation"]["pesq"])
    assert find(whole) == Checkpoint(whole.resolve(), "best", best["step"])


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.slow
def test_a_stop_loses_nothing(corpus: Corpus, whole: Path, tmp_path: Path, step: int) -> None:
    """Stopped by SIGTERM in the first epoch or in the middle of the second, then resumed: bit for bit the same."""
    out = tmp_path / "run"
    stopped = train(corpus, out, display=Stopper(step), devices=2)
    assert stopped.interrupted is signal.SIGTERM
    assert 0 < stopped.step < 6
    outcome = train(corpus, out, devices=2, resume=True)
    assert (outcome.interrupted, outcome.step) == (None, 6)
    assert without_timing(read_kind(out)) == without_timing(read_kind(whole))


@pytest.mark.slow
def test_another_number_of_devices_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(corpus, out, display=Stopper(1), devices=2)
    outcome = train(corpus, out, devices=1, resume=True)
    assert outcome.step == 6


@pytest.mark.slow
def test_occupied_folders_are_refused(corpus: Corpus, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--resume.*--overwrite"):
        train(corpus, whole)
    with pytest.raises(UserError, match="nothing to resume"):
        train(corpus, tmp_path / "none", resume=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("mine")
    with pytest.raises(UserError, match="not a run folder"):
        train(corpus, tmp_path / "letters", overwrite=True)
    assert (tmp_path / "letters" / "dear.txt").exists()


@pytest.mark.slow
def test_resume_refuses_another_run_and_lists_the_differences(corpus: Corpus, whole: Path) -> None:
    other = override(CONFIG, {"loss.time": 0.5, "targets.policy": "skip", "log_every": 1})
    with pytest.raises(UserError) as refused:
        train(corpus, whole, other, resume=True)
    message = str(refused.value)
    assert "loss.time: the run has 0.2, asked for 0.5" in message
    assert "targets.policy: the run has 'mask', asked for 'skip'" in message
    assert "log_every" not in message


class Notes(Display):
    """Keeps what is said between the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.slow
def test_resume_refuses_other_content_of_equal_length(folder: Path, whole: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    path = other / "train/noisy/p1_000.wav"
    audio.write(path, -audio.read(path), 16_000)
    with pytest.raises(
        UserError, match=r"corpus: other files, or other content of them.*name the run's own with --data"
    ):
        train(open_corpus(CorpusSource(data=other), CONFIG), whole, resume=True)


@pytest.mark.slow
def test_resume_refuses_another_division_of_the_same_files(corpus: Corpus, whole: Path) -> None:
    """As a later version might hold out others: a pair that trained would validate."""
    other = replace(corpus, train=corpus.train[1:], validation=(*corpus.validation, corpus.train[0]))
    assert other.fingerprint == corpus.fingerprint
    with pytest.raises(UserError, match="divides the corpus in another way") as refused:
        train(other, whole, resume=True)
    assert "training:   6 pairs" in str(refused.value)
    assert "training:   5 pairs" in str(refused.value)


@pytest.mark.slow
def test_runs_that_recorded_names_and_sizes_only_go_on(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun as the version before did it: the earlier fingerprint, no division; what it held out must fit."""
    short = override(CONFIG, {"epochs": 1, "steps_per_epoch": 1})
    with monkeypatch.context() as before:
        before.setattr(Corpus, "division", "")
        train(replace(corpus, fingerprint=corpus.earlier_fingerprint), tmp_path / "run", short)
    other = replace(corpus, train=corpus.train[1:])
    with pytest.raises(UserError, match="divides the corpus in another way"):
        train(other, tmp_path / "run", short, resume=True)
    notes = Notes()
    assert train(corpus, tmp_path / "run", override(short, {"epochs": 2}), notes, resume=True).step == 2
    assert any("from now on the content of its files counts" in line for line in notes.lines)
    about = json.loads((tmp_path / "run/run.json").read_text())
    assert about["provenance"]["data"]["fingerprint"] == corpus.fingerprint
    assert about["provenance"]["data"]["division"] == corpus.division


@pytest.mark.parametrize("policy", ["mask", "mean_fill", "batch_mean", "skip"])
@pytest.mark.slow
def test_failed_scores_under_each_policy(corpus: Corpus, tmp_path: Path, policy: str) -> None:
    """56 % of the scores are made to fail: only `skip` leaves updates out, and it logs exactly 0 for them."""
    # `skip` as the published head has it: no average, statistics of batch norm apart on each device.
    recipe = "published_head" if policy == "skip" else "recommended"
    numbers = {"targets.policy": policy, "targets.inject_failures": 0.56, "log_every": 1, "epochs": 1}
    config = override(make_config(recipe, "tiny"), numbers | {"steps_per_epoch": 12, "generator.dense_depth": 1})
    train(corpus, tmp_path / "run", config, devices=2)
    records = read_kind(tmp_path / "run", "step")
    # The draws are of (seed, step, item) alone, hence the same under every policy: 27 of 48 fail here.
    failed = [record["failures"].get("injected", 0) for record in records]
    assert 0.4 < sum(failed) / (12 * config.batch) < 0.7
    (epoch,) = read_kind(tmp_path / "run", "epoch")
    assert epoch["train"]["valid_share"] == pytest.approx(1 - sum(failed) / (12 * config.batch))
    assert epoch["train"]["failures"] == {"injected": sum(failed)}
    for record, count in zip(records, failed, strict=True):
        made = 0.0 if policy == "skip" and count else 1.0
        assert record["valid_share"] == 1 - count / config.batch
        assert record["discriminator_update"] == made
        assert (record["discriminator_loss"] == 0.0) == (made == 0.0)
        assert record["discriminator_loss_zero"] == 1.0 - made
        assert record["discriminator_loss_small"] >= record["discriminator_loss_zero"]
        assert record["not_finite"] == 0
        assert all(np.isfinite(v) for v in record.values() if isinstance(v, float))


@pytest.mark.parametrize(
    ("noise", "same"),
    [([f"{10_000 + k}" for k in range(20)], True), ([f"1-{10_000 + k}-{t}" for k in range(10) for t in "AB"], False)],
    ids=["each a recording", "two takes of each"],
)
def test_what_a_run_of_before_held_out_of_its_noise_must_be_held_out(
    tmp_path: Path, noise: list[str], same: bool
) -> None:
    """Two of 20 files were and are held out: before, of two recordings whose other takes trained."""
    rng = np.random.default_rng(1)
    for name in (*(f"speech/{voice}/{k}" for voice in "abcd" for k in range(2)), *(f"noise/{name}" for name in noise)):
        audio.write(tmp_path / f"{name}.wav", rng.uniform(-0.1, 0.1, 4000), 16_000)
    corpus = open_corpus(CorpusSource(tmp_path), CONFIG)
    before = {"description": corpus.describe(), "fingerprint": corpus.earlier_fingerprint}
    with nullcontext() if same else pytest.raises(UserError, match="divides the corpus in another way"):
        refuse_other_division(corpus, {"provenance": {"data": before}})


def recorded(out: Path, **source: Any) -> Path:
    """A run folder that records where its corpus was."""
    out.mkdir()
    about = {"config": to_dict(CONFIG), "source": {"data": "", "speech": [], "noise": [], "skip_bad": False} | source}
    (out / "run.json").write_text(json.dumps(about))
    return out


@pytest.mark.parametrize("words", [(), ("--data", "elsewhere")])
def test_a_corpus_that_is_not_where_it_was_is_missed_with_the_remedy(tmp_path: Path, words: tuple[str, ...]) -> None:
    out = recorded(tmp_path / "run", data="data/gone")
    arguments = parse(["--out", str(out), "--resume", *words])
    with pytest.raises(UserError) as refused:
        find_corpus(arguments, Display())
    message = str(refused.value)
    assert f"{words[-1] if words else 'data/gone'}: no such folder" in message
    assert "where the run's corpus lies elsewhere now, name it: --resume --data DIR" in message


def test_speech_and_noise_that_are_not_where_they_were_are_missed_with_the_remedy(tmp_path: Path) -> None:
    out = recorded(tmp_path / "run", speech=["data/gone"], noise=["data/noise"])
    with pytest.raises(UserError, match=r"data/gone: no such folder(.|\n)*--resume --speech DIR… --noise DIR…"):
        find_corpus(parse(["--out", str(out), "--resume"]), Display())


def test_a_run_that_records_no_place_says_how_to_name_it(tmp_path: Path) -> None:
    """As one that was begun by a call of `launch`."""
    out = recorded(tmp_path / "run")
    about = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(about | {"source": None}))
    arguments = parse(["--out", str(out), "--resume"])
    assert arguments.config == CONFIG
    with pytest.raises(UserError, match="name --data DIR"):
        find_corpus(arguments, Display())


def test_folders_that_are_named_at_a_resume_take_the_place_of_the_recorded_ones(tmp_path: Path) -> None:
    mixed = recorded(tmp_path / "mixed", speech=["a", "b"], noise=["c"])
    arguments = parse(["--out", str(mixed), "--resume", "--data", "new"])
    assert (arguments.data, arguments.speech, arguments.noise) == ("new", (), ())
    arguments = parse(["--out", str(mixed), "--resume", "--speech=new"])
    assert (arguments.data, arguments.speech, arguments.noise) == ("", (Path("new"),), (Path("c"),))
    one = recorded(tmp_path / "one", data="old", skip_bad=True)
    arguments = parse(["--out", str(one), "--resume", "--speech", "s", "t", "--noise", "n"])
    assert (arguments.data, arguments.speech, arguments.noise) == ("", (Path("s"), Path("t")), (Path("n"),))
    assert arguments.skip_bad


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "experiments.train", *map(str, words)]


def environment() -> dict[str, str]:
    """A user's: no number of host devices is forced."""
    return {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}


@pytest.mark.subprocess
@pytest.mark.slow
def test_command_line_stopped_and_resumed(folder: Path, tmp_path: Path) -> None:
    """The program itself, on CPU devices that it makes: its terminal goes, then `--resume` with no other word.

    A terminal that goes refuses what is printed, and sends SIGHUP.
    """
    out = tmp_path / "run"
    words = command("--data", folder, "--preset", "tiny", "--epochs", "2", "--out", out, "--devices", "2")
    metrics = out / "metrics.jsonl"
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline().startswith("training:")
            process.stdout.close()
            _wait(lambda: metrics.exists() and metrics.read_text().count("\n") >= 3)
            process.send_signal(signal.SIGHUP)
            assert process.wait(timeout=120) == 128 + signal.SIGHUP
            assert process.stderr.read() == ""
        finally:
            process.kill()
    first, last = read_kind(out, "event")
    assert (first["event"], first["reason"], first["then"]) == ("display_lost", "Broken pipe", "goes on")
    assert (last["event"], last["signal"], last["then"]) == ("stopped", "SIGHUP", "saved")
    assert last["step"] == steps_in(out / "latest")[-1] > first["step"]
    done = subprocess.run(
        command("--out", out, "--resume", "--devices", "2"), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert "noisy -> enhanced:  PESQ" in done.stdout
    assert [record["step"] for record in read_kind(out, "step")] == list(range(1, 9))


def _wait(happened: Callable[[], bool], limit: float = 240.0) -> None:
    end = time.monotonic() + limit
    while not happened():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)


@pytest.mark.subprocess
def test_damaged_files_are_all_listed_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    subprocess.run(["cp", "-r", folder, damaged], check=True)
    (damaged / "train" / "noisy" / "p1_000.wav").unlink()
    (damaged / "train" / "clean" / "p2_001.wav").write_bytes(b"not audio")
    audio.write(damaged / "train" / "clean" / "p3_000.wav", np.zeros(16_000, np.float32), 16_000)
    out = tmp_path / "run"
    done = subprocess.run(
        command("--data", damaged, "--preset", "tiny", "--out", out), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for name in ("p1_000", "p2_001", "p3_000"):
        assert name in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--preset", "huge"), "unknown preset 'huge'; there are: paper, demo, study, small, tiny"),
        (("--recipe", "best"), "unknown recipe 'best'"),
        (("--batch", "3", "--devices", "2", "--preset", "tiny"), "does not split evenly"),
        (("--data.crop-seconds", "-1"), "--data.crop-seconds"),
    ],
)
@pytest.mark.subprocess
def test_senseless_words_are_refused_with_what_would_be_right(
    folder: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = subprocess.run(
        command("--data", folder, "--out", tmp_path / "run", *words), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
