"""Comparisons from the command line: what a stop, a failure, other values and other variants do to them.

Everything runs but the steps: `Training` stands in their place, and writes what a run writes.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recordings import make_pairs

from cmgan_jax.cli import compare
from cmgan_jax.config import Config
from cmgan_jax.data.audio import AudioError
from cmgan_jax.data.corpus import Corpus
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config
from cmgan_jax.runs.records import read_kind
from cmgan_jax.training import launch, state
from cmgan_jax.training.display import Display
from cmgan_jax.training.divergence import Diverged
from cmgan_jax.training.loop import Outcome
from cmgan_jax.training.position import Position
from cmgan_jax.training.provenance import digest
from cmgan_jax.training.records import Recorder
from cmgan_jax.training.start import FRESH, Start
from cmgan_jax.training.state import TrainState

Program = Callable[..., int]


@dataclass
class Training:
    """Stands in for the steps of every run.

    Attributes:
        ends: how the runs of a variant end, by its name: an error that is raised after their first epoch.
        began: what was begun, in order: variant, and digest of its generator.
        corpora: the corpus of each run.
    """

    ends: dict[str, BaseException] = field(default_factory=dict)
    began: list[tuple[str, str]] = field(default_factory=list)
    corpora: list[Corpus] = field(default_factory=list)

    def __call__(
        self,
        config: Config,
        corpus: Corpus,
        folder: Path,
        placement: Any,
        state: TrainState,
        position: Position,
        about: dict[str, Any],
        display: Display,
        *_: Any,
    ) -> "Training":
        self._now = config, folder
        self.began.append((folder.parent.name, digest(jax.tree.map(np.asarray, state.generator.params))))
        self.corpora.append(corpus)
        return self

    def train(self) -> Outcome:
        config, folder = self._now
        recorder = Recorder(folder, 0)
        try:
            for epoch in range(config.epochs):
                validation = {"pesq": 2.0 + 0.1 * epoch, "si_sdr": 9.0, "loss": 0.1, "scored": 2, "files": 2}
                values = {"epoch": epoch + 1, "train": {}, "validation": validation, "noisy": {"pesq": 1.9}}
                recorder.record("epoch", 3 * epoch + 3, values)
                if folder.parent.name in self.ends:
                    raise self.ends[folder.parent.name]
        finally:
            recorder.close()
        return Outcome(None, 3 * config.epochs, None, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pairs of four synthesised speakers."""
    return make_pairs(tmp_path_factory.mktemp("corpus"), 4)


@pytest.fixture(scope="module")
def fresh() -> TrainState:
    """Networks of random weights at step 0; nothing is compiled."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(partial(state.random_state, make_config("recommended", "tiny")))
    # Counters are whole values, and they are 0.
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(size=leaf.shape), leaf.dtype), shapes)


@pytest.fixture
def training(fresh: TrainState, monkeypatch: pytest.MonkeyPatch) -> Training:
    stand_in = Training()
    monkeypatch.setattr(launch, "Trainer", stand_in)
    # Compiled once, and not anew for every run.
    for module in (launch, state):
        monkeypatch.setattr(module, "initialise", lambda *_: fresh)
    return stand_in


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def program(folder: Path, out: Path, fresh: TrainState, training: Training, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The program on that corpus: one variant, one seed, two epochs, unless the words say otherwise."""
    for name in ("prepare_programs", "prepare_devices", "cache_programs"):
        monkeypatch.setattr(compare, name, lambda *_: None)
    starts = {name: start_of(fresh, name) for name in ("warm7", "warm8")}
    starts["elsewhere"] = replace(starts["warm7"], about={**starts["warm7"].about, "origin": "elsewhere"})
    monkeypatch.setattr(compare, "read_start", lambda path: starts[str(path)])

    def run(*words: object, variants: tuple[str, ...] = ("recommended:",)) -> int:
        usual = ["--out", out, "--data", folder, "--preset", "tiny", "--study", "custom", "--devices", "1"]
        usual += ["--seeds", "0", "--epochs", "2", "--variants", *variants]
        monkeypatch.setattr(sys, "argv", ["compare", *map(str, [*usual, *words])])
        return compare.main()

    return run


def start_of(fresh: TrainState, name: str) -> Start:
    """A generator to begin with, whose weights are those of its name."""
    shift = float(name[-1])
    variables = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(shift), fresh.validated)
    about = {"origin": name, "digest": digest(variables), "discriminator": FRESH}
    return Start(variables, None, make_config("recommended", "tiny"), False, about)


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "comparison.json").read_text())


def texts(out: Path) -> Mapping[str, str]:
    return {finding["variant"]: finding["text"] for finding in result(out)["findings"]}


# --- what a run begins with --------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [1, 2])
def test_a_run_that_was_killed_before_it_saved_begins_with_the_same_generator(
    kills: int, program: Program, training: Training, fresh: TrainState, out: Path
) -> None:
    training.ends["recommended"] = KeyboardInterrupt()
    for _ in range(kills):
        with pytest.raises(KeyboardInterrupt):
            program("--start", "warm7")
    assert (out / "recommended" / "seed-0" / "run.json").exists()
    training.ends.clear()
    assert program("--start", "warm7") == 0
    assert training.began == (kills + 1) * [("recommended", digest(start_of(fresh, "warm7").generator["params"]))]


def test_what_a_comparison_begins_with_cannot_change(program: Program, training: Training, out: Path) -> None:
    training.ends["recommended"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        program("--start", "warm7")
    training.ends.clear()
    with pytest.raises(UserError, match=r"(?s)recommended/seed-0.*began with warm7.*asked for random weights"):
        program()
    with pytest.raises(UserError, match=r"(?s)recommended/seed-0.*began with warm7.*asked for warm8"):
        program("--start", "warm8")
    # The same weights are the same start, wherever they lie.
    assert program("--start", "elsewhere") == 0
    with pytest.raises(UserError, match="asked for random weights"):
        program()


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("large: generator.channels=8", "do not fit large:\n  generator.channels: 4 there, 8 here"),
        ("coarse: spectral.hop=200", "do not fit coarse:\n  spectral.hop: 100 there, 200 here"),
    ],
)
def test_a_generator_begins_only_what_it_fits(variant: str, said: str, program: Program, training: Training) -> None:
    with pytest.raises(UserError, match=said):
        program("--start", "warm7", variants=("recommended:", variant))
    assert not training.began
    # Nothing of the weights depends on dropout.
    assert program("--start", "warm7", variants=("dry: generator.dropout=0.0",)) == 0


# --- other runs in the folder ------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--loss.time", 0.5), "loss.time: the run has 0.2, asked for 0.5"),
        (("--targets.policy", "skip"), "targets.policy: the run has 'mask', asked for 'skip'"),
        (("--precision", "bf16"), "precision: the run has 'fp32', asked for 'bf16'"),
        (("--data", "others"), "corpus: other files"),
        (("--epochs", 1), "epochs: the run has 2, asked for 1"),
    ],
)
def test_runs_that_are_not_those_asked_for_are_refused(
    words: tuple[object, ...],
    said: str,
    finished: bool,
    program: Program,
    training: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_pairs(tmp_path / "others", 3)
    monkeypatch.chdir(tmp_path)
    if finished:
        assert program() == 0
    else:
        training.ends["recommended"] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            program()
    training.ends.clear()
    with pytest.raises(
        UserError, match=r"(?s)not those asked for; choose another --out.*recommended/seed-0"
    ) as refused:
        program(*words)
    assert said in str(refused.value)
    assert program() == 0


def test_failures_that_the_environment_makes_are_part_of_a_run(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program() == 0
    monkeypatch.setenv("CMGAN_INJECT_PESQ_FAILURES", "0.5")
    with pytest.raises(UserError, match="failures made on purpose, which the environment sets"):
        program()


def test_more_epochs_go_on_and_the_hosts_part_may_change(program: Program, training: Training, out: Path) -> None:
    assert program() == 0
    assert program("--log-every", "7", "--targets.workers", "1") == 0
    assert len(training.began) == 1
    assert program("--epochs", "3") == 0
    assert len(read_kind(out / "recommended" / "seed-0", "epoch")) == 3


# --- runs that fail ----------------------------------------------------------------------------------------

ENDS = {
    "diverged": Diverged("FOLDER: stopped at step 3: the loss or a gradient was not finite in the last 2 steps"),
    "file": AudioError(Path("p1.wav"), "has changed since it was checked"),
    "disk": OSError(28, "No space left on device", "run.json"),
    "pool": UserError("a PESQ worker process does not start: none"),
    "memory": MemoryError(),
    "device": RuntimeError("RESOURCE_EXHAUSTED: out of memory"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_fails_does_not_end_the_comparison(
    end: str, program: Program, training: Training, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A diverged run is left as it is by a restart, unless asked; others are tried again."""
    training.ends["bad"] = ENDS[end]
    variants = ("recommended:", "bad: loss.time=0.5", "good: loss.time=0.4")
    status = program(variants=variants)
    assert status == (0 if end == "diverged" else 2)
    assert [name for name, _ in training.began] == ["recommended", "bad", "good"]
    said = str(capsys.readouterr().err)
    assert str(out / "bad" / "seed-0") in said
    content = result(out)
    (failed,) = (run for run in content["runs"] if run["variant"] == "bad")
    assert failed["complete"] is False
    assert failed["failure"]
    assert failed["failure"].startswith("diverged") == (end == "diverged")
    assert failed["failure"] in texts(out)["bad"]
    assert "not told apart from" not in texts(out)["bad"]
    assert "failure" in texts(out)["good"] or "PESQ" in texts(out)["good"]
    # No mean is made of a run that is not whole.
    assert content["summary"]["bad"]["last"]["mean"] is None
    training.began.clear()
    training.ends.clear()
    assert program(variants=variants) == 0
    assert [name for name, _ in training.began] == ([] if end == "diverged" else ["bad"])
    if end == "diverged":
        assert program("--retry-diverged", variants=variants) == 0
        assert [name for name, _ in training.began] == ["bad"]
    assert all(run["complete"] for run in result(out)["runs"])


def test_errors_that_nobody_can_mend_pass(program: Program, training: Training) -> None:
    training.ends["recommended"] = RuntimeError("a mistake of the program's")
    with pytest.raises(RuntimeError, match="a mistake"):
        program()


def test_what_ended_without_a_word_comes_after_the_others(program: Program, training: Training, out: Path) -> None:
    """A process that was killed leaves its word in the lock's file; it may be killed by the same run again."""
    (out / "recommended").mkdir(parents=True)
    (out / "recommended" / "seed-0.lock").write_text("taken\n")
    variants = ("recommended:", "good: loss.time=0.4")
    assert program(variants=variants) == 0
    assert [name for name, _ in training.began] == ["good", "recommended"]
    assert (out / "recommended" / "seed-0.lock").read_text() == ""


# --- corpora by variant ------------------------------------------------------------------------------------


def test_each_variant_holds_out_what_its_numbers_say(program: Program, training: Training, out: Path) -> None:
    variants = ("recommended:", 'first: data.validation_speakers=["p1"]', "short: data.crop_seconds=0.25")
    assert program(variants=variants) == 0
    held = [{item.speaker for item in corpus.validation} for corpus in training.corpora]
    assert held == [{"p4"}, {"p1"}, {"p4"}]  # the last tenth of four speakers, at least one
    assert "p1" not in {item.speaker for item in training.corpora[1].train}


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("odd: batch=3", "variant odd: --devices 2: a batch of 3 does not split evenly"),
        ('nobody: data.validation_speakers=["p9"]', "variant nobody: --data.validation-speakers: no p9"),
        ("test: data.validate_on_test=true", "variant test: --data.validate-on-test"),
    ],
)
def test_what_a_variant_cannot_have_is_told_before_anything_trains(
    variant: str, said: str, program: Program, training: Training
) -> None:
    with pytest.raises(UserError, match=f"(?s){said}"):
        program("--devices", "2", variants=("recommended:", variant))
    assert not training.began
