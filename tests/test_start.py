"""A run that begins with given weights: of a run, a checkpoint, or a file; and again with them until it has its own."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from recordings import make_pairs
from rich.console import Console
from torch_files import Storage, save_legacy, tensor

from cmgan_jax.cli.export_torch import export_weights
from cmgan_jax.cli.import_torch import import_weights
from cmgan_jax.cli.train import find_start, parse
from cmgan_jax.config import Config
from cmgan_jax.data.corpus import Corpus, CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.pipeline import validation_crops
from cmgan_jax.diagnosis import origin, report
from cmgan_jax.diagnosis.history import History
from cmgan_jax.errors import UserError
from cmgan_jax.inference.weights import load, load_checkpoint
from cmgan_jax.interop.naming import discriminator_to_torch, generator_to_torch
from cmgan_jax.interop.torch_writer import write_torch_file
from cmgan_jax.interop.weights_file import read_weights_file, write_weights_file
from cmgan_jax.models.networks import make_networks
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs.folder import find
from cmgan_jax.runs.records import read_kind
from cmgan_jax.training.display import Display
from cmgan_jax.training.launch import RunOptions, launch, refuse_occupied
from cmgan_jax.training.loop import Outcome
from cmgan_jax.training.start import FRESH, SAME, Start, read_start, refuse_misfit
from cmgan_jax.training.validation import measure_batch

CONFIG = override(make_config("recommended", "tiny"), {"steps_per_epoch": 2, "epochs": 1})
# So small a rate that the weights stay where they were to seven digits.
STILL = override(CONFIG, {"optimiser.generator_rate": 1e-9, "steps_per_epoch": 1, "seed": 3})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("corpus"), 4)


@pytest.fixture(scope="module")
def corpus(data: Path) -> Corpus:
    return open_corpus(CorpusSource(data=data), CONFIG)


def source_of(data: Path) -> dict[str, Any]:
    return {"data": str(data), "speech": [], "noise": [], "skip_bad": False}


def train(
    corpus: Corpus, out: Path, config: Config = CONFIG, start: Start | None = None, data: Path = Path(), **options: Any
) -> Outcome:
    with Display(Console(quiet=True)) as display:
        wished = RunOptions(out, devices=1, **options)
        return launch(config, corpus, wished, display, source=source_of(data), initial=start)


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for two steps, with a moving average."""
    out = tmp_path_factory.mktemp("runs") / "source"
    train(corpus, out)
    return out


@pytest.fixture(scope="module")
def tuned(corpus: Corpus, run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Begun with that run, and kept there."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    train(corpus, out, STILL, read_start(run), data)
    return out


def as_legacy(path: Path, content: dict[str, np.ndarray]) -> None:
    kinds = {"f": "FloatStorage", "i": "LongStorage"}
    tensors = {
        name: tensor(
            Storage(kinds[array.dtype.kind], str(key), array.size, (None,)),
            array.shape,
            tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides) if array.ndim else (),
        )
        for key, (name, array) in enumerate(content.items())
    }
    storages = {str(key): array for key, array in enumerate(content.values())}
    save_legacy(path, {"model": tensors}, storages)


@pytest.fixture(scope="module")
def forms(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same generator in every form that people have."""
    root = tmp_path_factory.mktemp("forms")
    export_weights(run, root / "exported.pt")
    export_weights(run, root / "exported.safetensors")
    import_weights(root / "exported.pt", None, root / "imported")
    content = generator_to_torch(load(run).variables)
    write_torch_file(root / "plain.pt", content)
    write_torch_file(root / "compiled.pt", {f"module._orig_mod.{name}": value for name, value in content.items()})
    as_legacy(root / "legacy.pt", content)
    shutil.copytree(str(find(run)), root / "copied")
    return {
        "run": run,
        "best": run / "best",
        "checkpoint": Path(str(find(run))),
        "copied": root / "copied",
        "imported": root / "imported",
        **{name: root / name for name in ("exported.pt", "exported.safetensors", "plain.pt", "compiled.pt")},
        "legacy.pt": root / "legacy.pt",
    }


FORMS = ("run", "best", "checkpoint", "copied", "imported", "exported.pt", "exported.safetensors", "plain.pt")
KINDS = {"run": "run", "best": "run", "imported": "run", "exported.safetensors": "safetensors"}


@pytest.mark.parametrize("form", [*FORMS, "compiled.pt", "legacy.pt"])
@pytest.mark.slow
def test_a_run_begins_as_good_as_the_model_is(corpus: Corpus, run: Path, forms: dict[str, Path], form: str) -> None:
    """Expected: the validation loss that the model's own run recorded of it."""
    start = read_start(forms[form])
    refuse_misfit(start, STILL)
    state = start.state(STILL)
    judge = {"params": state.discriminator.params, "batch_stats": state.discriminator.batch_stats}
    crops = validation_crops(corpus, STILL)
    batch = {name: crops[name] for name in ("clean", "noisy")}
    losses = measure_batch(state.validated, judge, batch, config=STILL, networks=make_networks(STILL))
    (epoch,) = read_kind(run, "epoch")
    assert float(np.mean(losses.losses["loss"])) == pytest.approx(epoch["validation"]["loss"], rel=1e-5)
    assert int(state.generator.step) == 0
    kind = KINDS.get(form, "pytorch" if form.endswith(".pt") else "checkpoint")
    assert (start.about["kind"], start.about["digest"]) == (kind, read_start(run).about["digest"])
    assert start.assumed == (form in ("plain.pt", "compiled.pt", "legacy.pt"))


@pytest.mark.slow
def test_the_run_goes_on_from_there_and_says_so(run: Path, tuned: Path) -> None:
    taken = load(run)
    for name in ("params", "batch_stats"):
        pairs = zip(*(jax.tree.leaves(of.variables[name]) for of in (load(tuned), taken)), strict=True)
        # One step has moved the running statistics, by their momentum, and hardly the weights.
        assert all(np.allclose(a, b, atol=1e-7) for a, b in pairs) == (name == "params")
    about = json.loads((tuned / "run.json").read_text())["start"]
    assert about["origin"] == str(taken.origin)
    assert (about["step"], about["recipe"], about["preset"]) == (2, "recommended", "tiny")
    assert (about["generator"], about["discriminator"]) == ("its moving average", FRESH)
    assert set(about) >= {"digest", "revision", "kind"}
    sentence = f"It began with the generator (its moving average) of {taken.origin}, step 2, beside {FRESH}."
    assert sentence in (tuned / "report.html").read_text()
    for described in (origin.describe(tuned), origin.describe(tuned / "latest")):
        assert described["start"] == about
        assert sentence in described["sentence"]
    assert sentence in report.document(History.from_run(tuned))["source"]["notes"]


@pytest.mark.slow
def test_the_discriminator_may_be_of_the_same_place(run: Path, forms: dict[str, Path], tmp_path: Path) -> None:
    own = load_checkpoint(run).discriminator
    both = tmp_path / "both.pt"
    write_torch_file(both, {
        **{f"generator.{name}": value for name, value in generator_to_torch(load(run).variables).items()},
        **{f"discriminator.{name}": value for name, value in discriminator_to_torch(own).items()},
    })  # fmt: skip
    for path in (run, both):
        start = read_start(path, discriminator=True)
        found = start.state(STILL).discriminator
        for name in ("params", "batch_stats"):
            jax.tree.map(np.testing.assert_array_equal, getattr(found, name), own[name])
        assert start.about["discriminator"] == SAME
        assert start.about["digest"] != read_start(path).about["digest"]
    other = override(STILL, {"discriminator.channels": 8})
    refuse_misfit(read_start(run), other)
    with pytest.raises(UserError, match=r"discriminator\.channels: 2 there, 8 here"):
        refuse_misfit(read_start(run, discriminator=True), other)
    with pytest.raises(UserError, match="imported without a discriminator; leave --start-discriminator out"):
        read_start(forms["imported"], discriminator=True)
    with pytest.raises(UserError, match=r"no discriminator can be taken from it; leave --start-discriminator out"):
        read_start(forms["plain.pt"], discriminator=True)


# --- what does not fit -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_size_that_differs_is_named_with_what_would_fit(run: Path) -> None:
    config = override(make_config("recommended", "demo"), {"generator.dropout": 0.5, "generator.backend": "xla"})
    with pytest.raises(UserError) as error:
        refuse_misfit(read_start(run), config)
    # From the tables of presets: tiny has 4 channels, demo 16, and so on.
    lines = str(error.value).splitlines()
    assert lines[1:-1] == [
        "  generator.channels: 4 there, 16 here",
        "  generator.heads: 2 there, 1 here",
        "  generator.dense_depth: 2 there, 4 here",
        "  generator.kernel: 7 there, 31 here",
    ]
    assert lines[-1] == "give it their sizes: --preset tiny"
    start = read_start(run)
    odd = replace(start, config=override(start.config, {"spectral.hop": 50}))
    with pytest.raises(UserError, match=r"spectral\.hop: 50 there, 100 here\n.*: --spectral\.hop 50$"):
        refuse_misfit(odd, CONFIG)


@pytest.mark.slow
def test_a_file_that_does_not_tell_its_hop_takes_that_of_the_run(forms: dict[str, Path]) -> None:
    config = override(CONFIG, {"spectral.hop": 200})
    refuse_misfit(read_start(forms["plain.pt"]), config)
    with pytest.raises(UserError, match=r"spectral\.hop: 100 there, 200 here"):
        refuse_misfit(read_start(forms["exported.pt"]), config)
    narrower = override(CONFIG, {"spectral.n_fft": 320, "spectral.hop": 80})
    with pytest.raises(UserError, match=r"spectral\.n_fft: 400 there, 320 here"):
        refuse_misfit(read_start(forms["plain.pt"]), narrower)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--start", "absent"), "absent: no such file or folder"),
        (("--start", "letter.txt"), "it is text that begins with 'dear'"),
        (("--start-discriminator",), "--start-discriminator goes with --start"),
    ],
)
@pytest.mark.subprocess
def test_it_is_refused_before_the_corpus_is_read(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """There is no corpus at all, and the message is of the start."""
    (tmp_path / "letter.txt").write_text("dear")
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", "--data", "nowhere", "--out", "run", "--preset", "tiny", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_weights_that_overwrite_would_delete_are_refused(run: Path) -> None:
    words = ["--out", str(run), "--preset", "tiny", "--overwrite", "--start", str(run)]
    with pytest.raises(UserError, match=r"lies in --out .*, which --overwrite deletes"):
        find_start(parse(words))


# --- again -------------------------------------------------------------------------------------------------


def killed_early(tuned: Path, out: Path) -> Path:
    """What a kill before the first checkpoint leaves: run.json and the beginning of the records."""
    out.mkdir()
    shutil.copy(tuned / "run.json", out)
    (out / "metrics.jsonl").touch()
    return out


def resumed(out: Path, *words: str) -> Start | None:
    return find_start(parse(["--out", str(out), "--resume", *words]))


@pytest.mark.slow
def test_a_run_without_a_checkpoint_begins_with_the_same_weights_again(
    corpus: Corpus, tuned: Path, data: Path, tmp_path: Path
) -> None:
    """Expected: what the run that was not killed came to, bit for bit."""
    out = killed_early(tuned, tmp_path / "run")
    train(corpus, out, STILL, resumed(out), data, resume=True)
    (found,), (expected,) = (read_kind(folder, "epoch") for folder in (out, tuned))
    assert found["generator_digest"] == expected["generator_digest"]
    assert found["validation"]["loss"] == expected["validation"]["loss"]
    assert json.loads((out / "run.json").read_text())["start"] == json.loads((tuned / "run.json").read_text())["start"]


@pytest.mark.slow
def test_it_never_begins_with_others_unnoticed(corpus: Corpus, run: Path, tuned: Path, tmp_path: Path) -> None:
    out = killed_early(tuned, tmp_path / "run")
    about = json.loads((out / "run.json").read_text())
    with pytest.raises(UserError, match=r"no checkpoint yet, and the run began with .*: name that with --start"):
        train(corpus, out, STILL, None, resume=True)
    # The weights are gone; then others lie there; then the same lie elsewhere.
    moved = tmp_path / "moved"
    shutil.copytree(about["start"]["origin"], moved)
    about["start"]["origin"] = str(tmp_path / "gone")
    (out / "run.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"gone: no such file.*\n.*name it with --start"):
        resumed(out)
    shutil.copytree(run / "latest" / "2", tmp_path / "gone")
    other = load(tuned)
    write_weights_file(tmp_path / "other.pt", generator_to_torch(jax.tree.map(lambda x: x + 1, other.variables)), {})
    with pytest.raises(UserError, match=r"start: the run began with .*gone \(weights .*asked for .*other\.pt"):
        resumed(out, "--start", str(tmp_path / "other.pt"))
    start = resumed(out, "--start", str(moved))
    assert start is not None
    assert start.about["digest"] == about["start"]["digest"]


@pytest.mark.slow
def test_a_resume_needs_no_start_and_takes_no_other(
    corpus: Corpus, run: Path, tuned: Path, data: Path, forms: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(tuned, out)
    about = json.loads((out / "run.json").read_text())
    assert resumed(out) is None
    longer = replace(STILL, epochs=2)
    assert train(corpus, out, longer, None, data, resume=True).step == 2
    assert json.loads((out / "run.json").read_text())["start"] == about["start"]
    # The same weights in another form are the same start.
    assert resumed(out, "--start", str(forms["plain.pt"])) is not None
    with pytest.raises(UserError, match=r"start: the run began with .* asked for"):
        resumed(out, "--start", str(run), "--start-discriminator")
    with pytest.raises(UserError, match="start: the run began with random weights, asked for"):
        resumed(run, "--start", str(tuned))
    with pytest.raises(UserError, match="start: the run began with random weights, asked for"):
        train(corpus, run, CONFIG, read_start(tuned), data, resume=True)


@pytest.mark.slow
def test_imported_weights_are_not_a_run_to_resume(forms: dict[str, Path]) -> None:
    folder = forms["imported"]
    with pytest.raises(UserError, match=rf"imported, .* fine-tune them .*--start {folder} --out"):
        refuse_occupied(RunOptions(folder, resume=True))


@pytest.mark.slow
def test_the_file_that_is_exported_of_it_carries_its_average(tuned: Path, tmp_path: Path) -> None:
    note = read_weights_file(export_weights(tuned, tmp_path / "x.safetensors")[0]).note
    assert (note["averaged"], note["step"]) == (True, 1)
