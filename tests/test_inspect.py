"""Where a model is from: which code's recipe, what departs from it, revision, data, scores; and a PyTorch file."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_enhance import random_variables
from torch_files import FLOATS, RECORDS, program, save, tensor

from cmgan_jax.config import Config
from cmgan_jax.diagnosis.origin import describe, likeness
from cmgan_jax.errors import UserError
from cmgan_jax.interop.naming import generator_to_torch
from cmgan_jax.interop.weights_file import write_weights_file
from cmgan_jax.recipes import flatten, make_config, override, to_dict

ROOT = Path(__file__).resolve().parents[1]


def make_run(folder: Path, config: Config, **provenance: Any) -> Path:
    """A run folder of two epochs with a checkpoint, as `training` writes them."""
    about = {
        "config": to_dict(config),
        "source": {"data": "data/voicebank"},
        "devices": 2,
        "injected_failures": {"samples": 0.0, "batches": 0.0},
        "provenance": {
            "versions": {"jax": "0.10.2"},
            "python": "3.11.7",
            "source": {"commit": "c0ffee", "dirty": True},
            "data": {"fingerprint": "abc", "description": "40 pairs"},
            "device": "cpu: cpu",
        }
        | provenance,
    }
    best = folder / "best" / "150"
    for item in ("run", "state"):
        (best / item).mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(about))
    position = {"step": 150, "best": {"epoch": 1, "pesq": 2.5, "si_sdr": 14.0}, "noisy": {"pesq": 1.9}}
    (best / "run" / "metadata").write_text(json.dumps(about | {"position": position}))
    epochs = [
        {
            "kind": "epoch",
            "step": 150 * n,
            "epoch": n,
            "validation": {"pesq": pesq, "loss": 0.05},
            "noisy": {"pesq": 1.9},
        }
        for n, pesq in ((1, 2.5), (2, 2.4))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in epochs))
    return folder


def test_a_run(tmp_path: Path) -> None:
    config = override(make_config("published_head", "demo"), {"batch": 8, "data.validation_speakers": ("p1", "p2")})
    found = describe(make_run(tmp_path / "run", config))
    assert found["code"] == "published_head"
    assert "today's published head" in found["sentence"]
    assert found["differences"] == {
        "batch": {"recipe": 2, "here": 8},
        "data.validation_speakers": {"recipe": [], "here": ["p1", "p2"]},
    }
    assert (found["recipe"], found["policy"], found["devices"]) == ("published_head", "skip", 2)
    assert found["revision"] == {"commit": "c0ffee", "dirty": True}
    assert (found["steps"], found["epochs"], found["noisy_pesq"]) == (300, 2, 1.9)
    assert found["best"] == {"epoch": 1, "pesq": 2.5, "loss": 0.05}
    assert found["last"] == {"epoch": 2, "pesq": 2.4, "loss": 0.05}
    assert found["checkpoints"] == {"latest": [], "best": [150]}


@pytest.mark.parametrize("named", ["run/best/150", "run/best", "copied"])
def test_a_checkpoint_tells_of_itself(named: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_config("published_2022"))
    (run / "best" / "150").rename(tmp_path / "copied") if named == "copied" else None
    found = describe(tmp_path / named)
    assert (found["kind"], found["code"], found["steps"]) == ("checkpoint", "published_2022", 150)
    assert found["best"] == {"epoch": 1, "pesq": 2.5, "si_sdr": 14.0}
    assert found["differences"] == {}
    assert "checksums.json is missing" in found["damage"]


@pytest.mark.parametrize(
    ("recipe", "changed", "expected"),
    [
        ("published_2022", {}, "published_2022"),
        ("published_2022", {"batch": 2, "epochs": 3, "seed": 7}, "published_2022"),  # how much, not how
        ("published_2022", {"loss.time_reference": "unnormalised"}, "published_head"),
        ("published_head", {"loss.time_reference": "normalised"}, "published_2022"),
        ("published_head", {"targets.policy": "mask"}, "ours"),
        ("recommended", {}, "ours"),
    ],
)
def test_the_numbers_decide_and_not_the_name(recipe: str, changed: dict[str, Any], expected: str) -> None:
    assert likeness(flatten(override(make_config(recipe), changed))) == expected


def test_imported_weights_are_of_unknown_code(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_config("published_2022"), imported={"generator": {"file": "ckpt.pt"}})
    assert "imported: unless this project exported the file, which code" in describe(run)["sentence"]


def test_ours_with_the_head_s_time_loss_says_so(tmp_path: Path) -> None:
    config = override(make_config(), {"loss.time_reference": "unnormalised"})
    assert (
        "But its time loss is that of today's published head" in describe(make_run(tmp_path / "x", config))["sentence"]
    )


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run, no checkpoint"):
        describe(tmp_path)
    run = make_run(tmp_path / "run", make_config())
    (run / "best" / "150" / "run" / "metadata").write_text("[]")
    with pytest.raises(UserError, match="holds no record"):
        describe(run / "best")
    (run / "run.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        describe(run)
    (run / "run.json").write_text("{}")
    with pytest.raises(UserError, match="did not write it"):
        describe(run)


# --- the program -------------------------------------------------------------------------------------------


def inspected(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "experiments.inspect", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.subprocess
def test_the_program(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", override(make_config(), {"batch": 4}))
    done = inspected(run, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["differences"] == {"batch": {"recipe": 16, "here": 4}}
    words = inspected(run).stdout
    for part in ("this project's recipe recommended, with 1 number changed", "commit c0ffee, dirty yes", "batch   16"):
        assert part in words


@pytest.mark.subprocess
def test_a_published_file(shared: Path, tmp_path: Path) -> None:
    """The reference's generator, under a name as the published trainer gives it; 1.83 M parameters."""
    path = tmp_path / "CMGAN_epoch_50_0.057"
    path.symlink_to(shared / "reference" / "generator.pt")
    found = json.loads(inspected(path, "--json").stdout)
    assert (found["network"], found["epoch_in_name"], found["loss_in_name"]) == ("generator", 50, 0.057)
    assert found["sizes"]["channels"] == 64
    assert found["spectra"] == "not told; those of the published code are assumed"
    assert 1.83e6 < found["numbers"] < 1.84e6
    assert "rather not from there" in found["sentence"]
    discriminator = inspected(shared / "reference" / "discriminator.pt", "--json")
    assert json.loads(discriminator.stdout)["network"] == "discriminator"


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
@pytest.mark.subprocess
def test_a_file_that_this_project_exported(tmp_path: Path, name: str) -> None:
    config = override(make_config("recommended", "tiny"), {"spectral.hop": 200})
    note = {"config": to_dict(config), "step": 150, "averaged": True, "source": {"commit": "c0ffee", "dirty": False}}
    write_weights_file(tmp_path / name, generator_to_torch(random_variables(config), 150), note)
    found = json.loads(inspected(tmp_path / name, "--json").stdout)
    assert found["kind"] == {"x.pt": "pytorch"}.get(name, "safetensors")
    assert (found["code"], found["recipe"], found["preset"]) == ("ours", "recommended", "tiny")
    assert found["sentence"].startswith("This project exported it. It is trained by this project's recipe recommended")
    assert found["differences"] == {"spectral.hop": {"recipe": 100, "here": 200}}
    assert (found["revision"]["commit"], found["steps"], found["moving_average"]) == ("c0ffee", 150, True)
    assert found["spectra"]["hop"] == 200
    assert "commit c0ffee, dirty no" in inspected(tmp_path / name).stdout


@pytest.mark.subprocess
def test_a_file_of_something_else(tmp_path: Path) -> None:
    save(tmp_path / "x.pt", program({"a": tensor(FLOATS, (6,), (1,))}), RECORDS)
    (tmp_path / "y.pt").write_text("hello")
    for name in ("x.pt", "y.pt", "absent.pt"):
        done = inspected(tmp_path / name)
        assert (done.returncode, done.stdout) == (2, "")
        assert name in done.stderr
        assert "Traceback" not in done.stderr
