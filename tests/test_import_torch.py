"""Published weights into a run folder and out again, exact; the whole way to a clean recording."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from test_enhance import CONFIG, random_variables

from cmgan_jax.errors import UserError
from cmgan_jax.evaluation.enhancer import Enhancer
from cmgan_jax.evaluation.weights import load, load_checkpoint
from cmgan_jax.interop.naming import discriminator_to_torch, generator_to_torch
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.interop.torch_writer import write_torch_file
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.recipes import from_dict
from cmgan_jax.runs import Checkpoint
from cmgan_jax.training.checkpoint import read_run
from cmgan_jax.training.position import Position
from experiments import _cli, enhance, import_torch
from experiments.export_torch import export_weights
from experiments.import_torch import import_weights


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny networks as PyTorch files: 123 batches behind them."""
    folder = tmp_path_factory.mktemp("torch")
    write_torch_file(folder / "generator.pt", generator_to_torch(random_variables(), 123))
    magnitude = jax.ShapeDtypeStruct((1, 41, CONFIG.spectral.bins), np.float32)
    shapes = jax.eval_shape(Discriminator(CONFIG.discriminator).init, jax.random.key(0), magnitude, magnitude)
    draw = np.random.default_rng(0)
    judge = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), shapes)
    write_torch_file(folder / "discriminator.pt", discriminator_to_torch(judge))
    return folder


@pytest.fixture(scope="module")
def run(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "deep" / "run"
    assert import_weights(files / "generator.pt", files / "discriminator.pt", out) == 123
    return out


def test_the_run_folder_is_one_that_training_could_have_written(run: Path, files: Path) -> None:
    about = json.loads((run / "run.json").read_text())
    assert set(about) == {"config", "source", "provenance"}
    config = from_dict(about["config"])
    assert (config.recipe, config.generator.channels, config.generator.heads) == ("published_2022", 4, 2)
    assert config.discriminator == CONFIG.discriminator
    # The digest that any sha256sum gives.
    digest = subprocess.run(["sha256sum", files / "generator.pt"], capture_output=True, text=True, check=True).stdout
    assert about["provenance"]["imported"]["generator"] == {"file": "generator.pt", "sha256": digest.split()[0]}
    assert sorted(p.name for p in run.iterdir()) == ["best", "latest", "run.json"]
    for kind in ("best", "latest"):
        networks = load_checkpoint(run / kind)
        assert (networks.step, networks.config, networks.origin) == (123, config, run / kind / "123")


def test_the_position_is_one_that_a_run_restores(run: Path) -> None:
    saved = read_run(Checkpoint(run, "best", 123))
    position = Position.from_dict(saved["position"])
    assert (position.step, position.batches, position.best) == (123, None, None)


def test_out_again_the_files_are_the_same(run: Path, files: Path, tmp_path: Path) -> None:
    written = export_weights(run, tmp_path / "out")
    assert [p.name for p in written] == ["generator.pt", "discriminator.pt"]
    for path in written:
        # The writer's bytes depend on names, order and numbers alone.
        assert path.read_bytes() == (files / path.name).read_bytes()
    with pytest.raises(UserError, match=r"generator\.pt exists already"):
        export_weights(run, tmp_path / "out")
    assert export_weights(run, tmp_path / "new" / "alone.pt") == [tmp_path / "new" / "alone.pt"]
    assert (tmp_path / "new" / "alone.pt").read_bytes() == (files / "generator.pt").read_bytes()


def test_torch_reads_what_is_exported(run: Path, files: Path, tmp_path: Path) -> None:
    python = os.environ.get("CMGAN_TORCH_PYTHON")
    if python is None:
        pytest.skip("CMGAN_TORCH_PYTHON may name a python that has torch")
    check = "import sys, torch; a = torch.load(sys.argv[1], weights_only=True); print(len(a), a[sys.argv[2]].sum())"
    name = "dense_encoder.conv_1.0.weight"
    export_weights(run, tmp_path)
    out = subprocess.run(
        [python, "-c", check, tmp_path / "generator.pt", name], check=True, capture_output=True, text=True, timeout=120
    )
    expected = read_torch_file(files / "generator.pt")
    assert out.stdout.split()[0] == str(len(expected))
    assert float(out.stdout.split("(")[1].rstrip(")\n")) == pytest.approx(float(expected[name].sum()), abs=1e-3)


def test_every_way_to_name_a_checkpoint(run: Path, files: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "best" / "123", tmp_path / "copied")
    expected = jax.tree.leaves(load(files / "generator.pt").variables)
    for path in (run, run / "best", run / "latest", run / "best" / "123", tmp_path / "copied"):
        found = load(path)
        assert found.step == 123
        assert found.config.generator.channels == 4
        for mine, theirs in zip(jax.tree.leaves(found.variables), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert load(run, step=123).origin == run / "best" / "123"


def test_what_is_no_checkpoint_is_refused_by_name(run: Path, files: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    damaged = tmp_path / "damaged"
    shutil.copytree(run / "best" / "123", damaged)
    for file in (damaged / "run").glob("*"):
        file.write_text("{")
    for path, step, words in (
        (tmp_path / "absent", None, "absent: no such file or folder"),
        (Path("~nobody-of-that-name/run"), None, "no user of that name"),
        (tmp_path, None, "no checkpoint"),
        (run, 7, r"no checkpoint of step 7 there .*123"),
        (files / "generator.pt", 7, "this is a file"),
        (run / "best" / "123", 7, "this is one checkpoint"),
        (tmp_path / "text", None, "text as a PyTorch checkpoint"),
        (damaged, None, r"damaged is damaged: run/.* has 1 bytes of"),
    ):
        with pytest.raises(UserError, match=words):
            load(path, step)


def test_an_occupied_folder_and_other_networks_are_refused(run: Path, files: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an empty folder"):
        import_weights(files / "generator.pt", None, run)
    with pytest.raises(UserError, match="not the state dict of a generator"):
        import_weights(files / "discriminator.pt", None, tmp_path / "run")
    other = dict(read_torch_file(files / "generator.pt"))
    other["mask_decoder.prelu_out.weight"] = np.zeros(257, np.float32)
    write_torch_file(tmp_path / "other.pt", other)
    with pytest.raises(UserError, match=r"other\.pt: .* 257 frequency bins"):
        import_weights(tmp_path / "other.pt", None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_published_weights_from_file_to_clean_recording(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All through the command lines, at full size, against the published code's own output."""
    reference = np.load(shared / "reference" / "reference.npz")
    for i in range(2):
        soundfile.write(tmp_path / f"noisy{i}.wav", reference["noisy"][i], 16_000, subtype="FLOAT")
    monkeypatch.setattr("experiments.enhance.cache_programs", lambda: None)
    words = ["import_torch", "--generator", str(shared / "reference" / "generator.pt"), "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="0"):
        _cli.run(import_torch.main)
    assert "discriminator has random weights" in capsys.readouterr().out
    inputs = [str(tmp_path / f"noisy{i}.wav") for i in range(2)]
    monkeypatch.setattr(
        sys, "argv", ["enhance", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *inputs]
    )
    with pytest.raises(SystemExit, match="0"):
        _cli.run(enhance.main)
    for i in range(2):
        found, rate = soundfile.read(tmp_path / "out" / f"noisy{i}.wav", dtype="float32")
        expected = reference["eval_audio"][i] / reference["scale"][i]
        assert (rate, found.shape) == (16_000, expected.shape)
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert Enhancer.from_checkpoint(tmp_path / "run").weights.step == 0
