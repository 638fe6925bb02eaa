"""The wrapper of entry points: homes in paths, and an environment that JAX or Python trips over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cmgan_jax.cli._cli import with_home
from cmgan_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("~/runs/x", "/home/me/runs/x"),
        ("~", "/home/me"),
        ("--out=~/runs/x", "--out=/home/me/runs/x"),
        ("other=~/x", "other=/home/me/x"),
        ("--also=other=~/x", "--also=other=/home/me/x"),
        *((word, word) for word in ("--out=runs/~x", "./~/x", "a b=~/x", "--out", "--targets.policy=mask", "")),
    ],
)
def test_a_home_is_expanded_where_a_path_begins(word: str, expanded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert with_home(word) == expanded


def test_a_home_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    with pytest.raises(UserError, match="no user of that name"):
        with_home("--out=~nobody-of-that-name/x")
    # A file may be called so.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~draft.wav").touch()
    assert with_home("~draft.wav") == "~draft.wav"


@pytest.mark.subprocess
def test_every_entry_point_expands(tmp_path: Path) -> None:
    """One that takes a flag with =, and refuses where the path leads."""
    (tmp_path / "file").touch()
    words = [sys.executable, "-m", "experiments.enhance", "--checkpoint", "x", "--out=~/file", "x.wav"]
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, f"--out {tmp_path}/file: {tmp_path}/file is no folder; name another\n")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("JAX_ENABLE_X64", "maybe", "the environment variable JAX_ENABLE_X64: "),
        ("JAX_NUM_CPU_DEVICES", "many", "the environment variable JAX_NUM_CPU_DEVICES: "),
        ("JAX_DEFAULT_MATMUL_PRECISION", "lots", "the environment variable JAX_DEFAULT_MATMUL_PRECISION: "),
        ("JAX_PLATFORMS", "nonsense", "no device to compute on (Unable to initialize backend 'nonsense'"),
        ("JAX_PLATFORMS", "cuda", "no device to compute on ("),
    ],
)
@pytest.mark.subprocess
def test_an_environment_that_jax_refuses_ends_in_a_line(variable: str, value: str, said: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "experiments.train", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    # No accelerator, whatever the machine has.
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", variable: value}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(said)


@pytest.mark.subprocess
def test_a_missing_package_is_named() -> None:
    program = "import sys; sys.argv = ['-m']; sys.modules['rich'] = None; import experiments, rich"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "the package rich is not installed: pip install cmgan-jax installs what it needs\n"
