"""Published weights into a run folder and out again, exact; the whole way to a clean recording."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import pytest
import soundfile
from test_enhance import CONFIG, noise, random_variables

from cmgan_jax.cli import _cli, enhance, import_torch
from cmgan_jax.cli.export_torch import export_weights
from cmgan_jax.cli.import_torch import Analysis, import_weights
from cmgan_jax.diagnosis import origin
from cmgan_jax.errors import UserError
from cmgan_jax.inference.enhancer import Enhancer
from cmgan_jax.inference.weights import Weights, load, load_checkpoint
from cmgan_jax.interop.naming import discriminator_to_torch, generator_to_torch
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.interop.torch_writer import write_torch_file
from cmgan_jax.interop.weights_file import Format, read_weights_file, write_weights_file
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.recipes import from_dict, override, to_dict
from cmgan_jax.runs.folder import Checkpoint
from cmgan_jax.system import checksums
from cmgan_jax.training.checkpoint import read_run
from cmgan_jax.training.position import Position


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


def assert_same_tensors(one: Path, other: Path) -> None:
    found, expected = (read_weights_file(path).content for path in (one, other))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, strict=True)


@pytest.mark.parametrize("form", get_args(Format))
def test_out_again_the_tensors_are_the_same(run: Path, files: Path, tmp_path: Path, form: Format) -> None:
    written = export_weights(run, tmp_path / "out", format=form)
    assert [p.name for p in written] == [f"generator.{form}", f"discriminator.{form}"]
    for path in written:
        assert_same_tensors(path, files / f"{path.stem}.pt")
    with pytest.raises(UserError, match=rf"generator\.{form} exists already"):
        export_weights(run, tmp_path / "out", format=form)
    # A name's ending decides before the format.
    alone = tmp_path / "new" / f"alone.{form}"
    assert export_weights(run, alone) == [alone]
    assert_same_tensors(alone, files / "generator.pt")


@pytest.mark.parametrize("form", get_args(Format))
@pytest.mark.slow
def test_the_numbers_that_no_tensor_tells_go_with_the_tensors(tmp_path: Path, form: Format) -> None:
    """A run of another window, hop, compression and dropout, out and in again: as it was, and so is its sound."""
    numbers = {"spectral.n_fft": 320, "spectral.hop": 160, "spectral.exponent": 0.5, "generator.dropout": 0.1}
    config = override(CONFIG, numbers | {"generator.kernel": 5, "generator.max_distance": 40, "generator.heads": 1})
    variables = random_variables(config)
    content = generator_to_torch(variables)
    note = {"config": to_dict(config), "step": 5}
    write_weights_file(tmp_path / f"x.{form}", content, note)
    import_weights(tmp_path / f"x.{form}", None, tmp_path / "run")
    exported = export_weights(tmp_path / "run", tmp_path / f"again.{form}")[0]
    for path in (tmp_path / f"x.{form}", tmp_path / "run", exported):
        weights = load(path)
        assert (weights.config, weights.step, weights.assumed) == (config, 5, False)
    audio = noise(4_000)
    expected = Enhancer(Weights(variables, config, tmp_path, 5)).enhance(audio, 16_000)
    np.testing.assert_array_equal(Enhancer(load(exported)).enhance(audio, 16_000), expected)


def test_a_file_that_tells_no_numbers_takes_them_from_the_command_line(tmp_path: Path) -> None:
    config = override(CONFIG, {"spectral.n_fft": 320, "spectral.hop": 160})
    write_torch_file(tmp_path / "x.pt", generator_to_torch(random_variables(config)))
    with pytest.raises(UserError, match=r"161 frequency bins.*cmgan import .*--spectral\.n-fft 320"):
        load(tmp_path / "x.pt")
    import_weights(tmp_path / "x.pt", None, tmp_path / "run", Analysis(n_fft=320, hop=160))
    assert load(tmp_path / "run").config.spectral == config.spectral
    # What a file tells stands.
    note = {"config": to_dict(config)}
    write_weights_file(tmp_path / "told.pt", generator_to_torch(random_variables(config)), note)
    with pytest.raises(UserError, match=r"hop=160.* as is recorded in it, not .*hop=80"):
        import_weights(tmp_path / "told.pt", None, tmp_path / "other", Analysis(hop=80))


@pytest.mark.parametrize(
    ("claimed", "said"),
    [
        ({"generator.channels": 8}, "generator.channels: 8 as recorded, 4 by its tensors"),
        ({"generator.blocks": 2}, "generator.blocks: 2 as recorded, 1 by its tensors"),
        ({"generator.heads": 4}, "generator.heads: 4 as recorded, 2 by its tensors"),
        ({"generator.kernel": 9}, "generator.kernel: 9 as recorded, 7 by its tensors"),
        ({"generator.dense_depth": 3}, "generator.dense_depth: 3 as recorded, 2 by its tensors"),
        ({"generator.max_distance": 8}, "generator.max_distance: 8 as recorded, 512 by its tensors"),
        ({"spectral.n_fft": 320, "spectral.hop": 80}, r"spectral.n_fft: 320 as recorded, 400 by its tensors"),
        ({"discriminator.channels": 8}, "discriminator.channels: 8 as recorded, 2 by its tensors"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_record_that_contradicts_the_tensors_is_refused(
    run: Path, tmp_path: Path, claimed: dict[str, Any], said: str
) -> None:
    shutil.copytree(run / "best" / "123", tmp_path / "copied")
    metadata = tmp_path / "copied" / "run" / "metadata"
    saved = json.loads(metadata.read_text())
    wrong = to_dict(override(from_dict(saved["config"]), claimed))
    metadata.write_text(json.dumps(saved | {"config": wrong}))
    (tmp_path / "copied" / checksums.NAME).unlink()
    checksums.write(tmp_path / "copied")
    with pytest.raises(UserError, match=f"copied: its weights contradict its own record(.|\n)*{said}"):
        load(tmp_path / "copied")
    if not said.startswith("discriminator"):
        write_weights_file(tmp_path / "x.pt", generator_to_torch(load(run).variables), {"config": wrong})
        with pytest.raises(UserError, match=rf"x\.pt: its weights contradict its own record(.|\n)*{said}"):
            load(tmp_path / "x.pt")


def test_a_folder_of_files_names_them(files: Path, tmp_path: Path) -> None:
    """As the published repository lays its checkpoint: best_ckpt/ckpt."""
    (tmp_path / "best_ckpt").mkdir()
    shutil.copy(files / "generator.pt", tmp_path / "best_ckpt" / "ckpt")
    for look in (load, origin.describe):
        with pytest.raises(UserError, match=r"best_ckpt: no .* may hold weights: ckpt; name one"):
            look(tmp_path / "best_ckpt")
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(UserError, match="a model of TensorFlow"):
        load(tmp_path)


@pytest.mark.subprocess
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
        (tmp_path / "text", None, "text: it is text that begins with 'hello'"),
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


@pytest.mark.slow
def test_the_published_weights_from_file_to_clean_recording(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All through the command lines, at full size, against the published code's own output."""
    reference = np.load(shared / "reference" / "reference.npz")
    for i in range(2):
        soundfile.write(tmp_path / f"noisy{i}.wav", reference["noisy"][i], 16_000, subtype="FLOAT")
    monkeypatch.setattr("cmgan_jax.cli.enhance.cache_programs", lambda: None)
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
