"""The examples run: each on a random generator of the smallest preset, or for a few steps."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import numpy as np
import pytest
import soundfile
from recordings import make_pairs

from cmgan_jax.config import Config
from cmgan_jax.data.corpus import CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.errors import UserError
from cmgan_jax.inference.enhancer import Enhancer
from cmgan_jax.inference.weights import load
from cmgan_jax.interop.naming import generator_to_torch
from cmgan_jax.interop.weights_file import write_weights_file
from cmgan_jax.metrics.registry import check_metric
from cmgan_jax.models.networks import make_networks, trusting
from cmgan_jax.recipes import make_config, override, to_dict
from cmgan_jax.runs.folder import read_about
from cmgan_jax.runs.records import read_kind
from cmgan_jax.training.display import Display
from cmgan_jax.training.launch import RunOptions, launch
from cmgan_jax.training.state import initialise
from examples import custom_metric, enhance, load_weights, train_loop

EXAMPLES = Path(__file__).parents[1] / "examples"
RATE = 16_000
TINY = override(
    make_config("recommended", "tiny"),
    {"generator.blocks": 0, "generator.dense_depth": 1, "data.crop_seconds": 0.5, "targets.workers": 1, "batch": 2},
)
MASK = "examples.custom_generator:MaskNetwork"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in a file."""
    path = tmp_path_factory.mktemp("weights") / "generator.safetensors"
    write_weights_file(path, generator_to_torch(initialise(TINY).validated, 0), {"config": to_dict(TINY), "step": 0})
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of tones in noise."""
    path = tmp_path_factory.mktemp("recordings") / "noisy.wav"
    rng = np.random.default_rng(0)
    tones = 0.2 * np.sin(2 * np.pi * 200 * np.arange(2 * RATE) / RATE)
    soundfile.write(path, tones + 0.02 * rng.standard_normal(tones.shape), RATE)
    return path


def test_arrays_streams_and_folders(weights: Path, recording: Path, tmp_path: Path) -> None:
    """Two seconds are enhanced as a whole; as a stream they fit into one window, so both are the same."""
    enhancer = Enhancer.from_checkpoint(weights)
    noisy, _ = soundfile.read(recording, dtype="float32")
    whole = enhance.clean_array(enhancer, noisy, RATE)
    assert whole.shape == noisy.shape
    assert not np.allclose(whole, noisy, atol=1e-3)
    streamed = np.concatenate(list(enhance.clean_blocks(enhancer, np.array_split(noisy, 7), RATE)))
    np.testing.assert_allclose(streamed, whole, atol=1e-4)
    (written,) = enhance.clean_folder(enhancer, recording.parent, tmp_path / "out")
    assert written == tmp_path / "out" / "noisy.wav"
    np.testing.assert_allclose(soundfile.read(written)[0], np.clip(whole, -1, 1), atol=2 / 2**15)


def test_applying_a_generator_by_hand_is_what_the_enhancer_does(weights: Path, recording: Path) -> None:
    noisy, _ = soundfile.read(recording, dtype="float32")
    expected = Enhancer.from_checkpoint(weights, strength=1.0).enhance(noisy, RATE)
    np.testing.assert_allclose(load_weights.enhance(weights, noisy), expected, atol=1e-4)


@pytest.mark.slow
def test_one_s_own_loop_gives_the_same_losses_on_one_device_and_over_two(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = train_loop.train_on_one_device(TINY, 3)
    assert np.isfinite(losses).all()
    for mapping in ("pmap", "jit"):
        np.testing.assert_allclose(
            train_loop.train_over_devices(override(TINY, {"mapping": mapping}), 3, 2), losses, rtol=1e-4
        )


def test_a_metric_of_one_s_own_is_accepted() -> None:
    """By hand: a spectrum is 0 dB from itself; a gain changes nothing, since levels are compared relative to peaks."""
    scale = check_metric("examples.custom_metric:LogSpectralDistance", 10.0)
    assert (scale.name, scale.unit, scale.higher_is_better) == ("lsd", "dB", False)
    clean = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    metric = custom_metric.LogSpectralDistance()
    assert metric.score(clean, 0.5 * clean, RATE) == pytest.approx(0.0, abs=1e-3)
    assert metric.score(clean, np.cumsum(clean), RATE) > 3


@pytest.mark.slow
def test_a_generator_of_one_s_own_trains_resumes_and_enhances(tmp_path: Path, recording: Path) -> None:
    config = override(
        TINY,
        {"generator.module": MASK, "steps_per_epoch": 2, "epochs": 1, "log_every": 1, "data.crop_seconds": 1.0},
    )
    make_pairs(tmp_path / "data", 2)

    def train(config: Config, **options: Any) -> None:
        corpus = open_corpus(CorpusSource(tmp_path / "data"), config)
        launch(config, corpus, RunOptions(tmp_path / "run", **options), Display())

    train(config)
    train(override(config, {"epochs": 2, "mapping": "jit"}), resume=True)
    assert [record["step"] for record in read_kind(tmp_path / "run", "epoch")] == [2, 4]
    assert read_about(tmp_path / "run")["config"]["generator"]["module"] == MASK

    with pytest.raises(UserError, match=f"its generator is code of one's own, {MASK}.*add --generator-module {MASK}"):
        load(tmp_path / "run")
    with pytest.raises(UserError, match=f"--generator-module mine:Net: the run's generator is {MASK}"):
        _ = load(tmp_path / "run", network_factory=trusting("mine:Net")).networks
    enhancer = Enhancer.from_checkpoint(tmp_path / "run", network_factory=make_networks)
    noisy, _ = soundfile.read(recording, dtype="float32")
    enhanced = enhancer.enhance(noisy, RATE)
    # A gain between 0 and 1 for every point, so there is less of everything.
    assert 0 < np.sqrt(np.mean(enhanced**2)) < np.sqrt(np.mean(noisy**2))


@pytest.mark.subprocess
@pytest.mark.slow
def test_the_examples_are_programs(weights: Path, recording: Path, tmp_path: Path) -> None:
    def run(name: str, *arguments: str) -> str:
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "files of the folder are in" in run(
        "enhance.py", str(recording), "--checkpoint", str(weights), "--out", str(tmp_path / "o")
    )
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"whole.wav", "streamed.wav", "folder"}
    assert "2.00 s enhanced" in run("load_weights.py", str(weights), str(recording))
    assert run("custom_metric.py", str(recording), str(recording)) == "0.00 dB\n"
    assert run("train_loop.py", "--steps", "1").startswith("generator loss: ")


@pytest.mark.subprocess
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Of the packages that run notebooks.
def test_the_tour_runs_from_its_first_cell_to_its_last(
    weights: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recording is its own reference: PESQ has no speech in tones, so a real pair is taken where there is one."""
    pairs = Path(__file__).parents[2] / "shared" / "voicebank" / "test"
    if not pairs.is_dir():
        pytest.skip("needs a pair of recorded speech: ../shared/voicebank/test")
    noisy = sorted((pairs / "noisy").iterdir())[0]
    monkeypatch.setenv("CMGAN_CHECKPOINT", str(weights))
    monkeypatch.setenv("CMGAN_NOISY", str(noisy))
    monkeypatch.setenv("CMGAN_CLEAN", str(pairs / "clean" / noisy.name))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [name for output in outputs for name in output.get("data", {})]
    assert shown.count("image/png") == 2
    assert shown.count("text/html") == 2  # The players.
    text = "".join(output.get("text", "") for output in outputs)
    assert "enhanced  PESQ" in text
    assert "samples came out" in text


def test_every_example_is_told_of_in_the_documents() -> None:
    told = (EXAMPLES.parent / "docs" / "getting-started.md").read_text()
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert files == {name for name in files if f"examples/{name}" in told}
    assert importlib.util.find_spec("examples") is not None
