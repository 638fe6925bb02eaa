"""The published CMGAN in PyTorch: that it is the same model, and that it answers. Needs PyTorch somewhere."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest

from cmgan_jax.benchmarking.clock import Gone
from cmgan_jax.benchmarking.material import make_crops
from cmgan_jax.benchmarking.workload import PROGRAMS
from cmgan_jax.errors import UserError
from cmgan_jax.interop.naming import generator_to_torch
from cmgan_jax.models.generator import Generator
from cmgan_jax.recipes import make_config, override, to_dict
from cmgan_jax.training.state import random_state
from experiments.pytorch_baseline.client import (
    MODES,
    ROOT,
    VARIABLE,
    BaselineProcess,
    Mode,
    Published,
    environment,
    find_torch,
    require_torch,
)
from experiments.pytorch_baseline.published_pesq import JoinedPesq

SMALL = override(make_config("recommended", "tiny"), {"batch": 1, "generator.channels": 4})


@pytest.fixture(scope="module")
def torch_python() -> str:
    found = find_torch()
    if found is None:
        pytest.skip(f"PyTorch is neither here nor in an interpreter that {VARIABLE} names")
    return found


@pytest.mark.timeout(900)
@pytest.mark.subprocess
def test_it_is_the_published_model(torch_python: str, shared: Path) -> None:
    """Against numbers that the published code itself produced, with its own weights (README beside them)."""
    words = [torch_python, str(ROOT / "tests" / "pytorch_baseline_parity.py"), str(shared / "reference")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout)
    for name, allowed in {
        "generator": 1e-4,
        "audio": 1e-4,
        "discriminator": 1e-5,
        "loss": 1e-5,
        "gradient": 1e-3,
        "discriminator_updates": 1e-4,
    }.items():
        assert found[name] <= allowed, (name, found[name])


@pytest.mark.subprocess
def test_other_sizes_compute_what_ours_do(torch_python: str, tmp_path: Path) -> None:
    """Strides before and after the dense block, and a narrower output: the same weights on both sides."""
    config = override(
        make_config("recommended", "small"),
        {"generator.channels": 8, "generator.early_strides": (2, 4), "generator.late_strides": (2, 4)},
    )
    rng = np.random.default_rng(0)
    noisy = (rng.normal(size=(1, 12, config.spectral.bins)) + 1j * rng.normal(size=(1, 12, config.spectral.bins))) / 2
    noisy = noisy.astype(np.complex64)
    generator = Generator(config.generator)
    shapes = jax.eval_shape(generator.init, jax.random.key(0), noisy)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.3, leaf.shape).astype(np.float32), shapes)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    np.savez(tmp_path / "weights.npz", **cast(Any, generator_to_torch(variables)))
    # PyTorch's layout: real and imaginary parts beside each other, [B, 2, T, F].
    np.save(tmp_path / "noisy.npy", np.stack([noisy.real, noisy.imag], axis=1))
    words = [torch_python, str(ROOT / "tests" / "pytorch_baseline_other_sizes.py"), str(tmp_path)]
    subprocess.run(words, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    ours = np.asarray(jax.jit(generator.apply)(variables, noisy))
    theirs = np.load(tmp_path / "estimate.npy")
    np.testing.assert_allclose(theirs[:, 0] + 1j * theirs[:, 1], ours, atol=1e-4 * np.abs(ours).max())


@pytest.mark.timeout(600)
def test_it_takes_turns(torch_python: str) -> None:
    crops = make_crops(1, SMALL.data.crop_seconds, 16_000)
    with BaselineProcess(SMALL, crops, Mode(compiled=False, precision="fp32")) as baseline:
        # As many parameters as ours at this size.
        ours = jax.eval_shape(lambda: random_state(SMALL)).generator.params
        assert baseline.about["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(ours))
        samples = baseline.samples(["forward", "generator", "discriminator", "constant"])
        assert min(sample(1) for sample in samples.values()) > 0
        assert set(baseline.first) == set(PROGRAMS) - {"step"}
        assert set(baseline.pesq_wait_ms["constant"]) == {0.0}
        # An interpreter with PyTorch in it takes over 100 MB.
        assert baseline.ask("memory")["rss"] > 100e6


def test_a_process_that_ends_is_a_sentence(torch_python: str) -> None:
    with (
        BaselineProcess(SMALL, make_crops(1, 0.5, 16_000), MODES["eager-fp32"]) as baseline,
        pytest.raises(UserError, match="ended with status 1 at 'nonsense'"),
    ):
        baseline.ask("nonsense")


def test_a_process_that_is_killed_is_a_sentence_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed while nobody listens, as for lack of memory; what it has started goes with it. A stand-in for PyTorch.

    What it has started has its pipes, so that a request can still be written, and its answer waited for.
    """
    fake, child = tmp_path / "python", tmp_path / "child"
    started = f"exec 3<&0\nsleep 300 <&3 & echo $! > {child}\n"
    fake.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\nread line; echo "{{}}"\n{started}kill -9 $$\n')
    fake.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "./python")  # It is started from another folder.
    with BaselineProcess(SMALL, make_crops(1, 0.5, 16_000), MODES["eager-fp32"]) as baseline:
        baseline._process.wait()
        for _ in range(2):
            with pytest.raises(Gone, match=r"torch eager, fp32\) ended with status -9 at 'memory'"):
                baseline.ask("memory")
    assert baseline.gone is not None
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child.read_text().strip()}/cmdline").exists() and time.monotonic() < deadline:
        if not Path(f"/proc/{child.read_text().strip()}/cmdline").read_bytes():
            break  # A zombie, of which the first process of all has not taken notice.
        time.sleep(0.05)
    assert time.monotonic() < deadline


def test_a_process_that_ends_at_once_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\nexit 3\n')
    fake.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(fake))
    with ExitStack() as opened:
        found, gone = Published().open(opened, SMALL, make_crops(1, 0.5, 16_000), [MODES["eager-fp32"]])
    assert found == {}
    assert "ended with status 3 at 'open'" in gone[0]


def test_the_interpreter_is_named_or_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    with pytest.raises(UserError, match=r"cannot be run \(No such file or directory\)"):
        require_torch()
    without = tmp_path / "without"
    without.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named torch' >&2\nexit 1\n")
    without.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(without))
    with pytest.raises(UserError, match=r"No module named torch.*pip install torch"):
        require_torch()


def test_nothing_named_and_nothing_here_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"{VARIABLE} .*pip install torch"):
        require_torch()


def test_a_path_of_packages_reaches_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyTorch or pesq are found by it, they must be in the process as they were when it was chosen."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert environment()["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/somewhere"]
    monkeypatch.delenv("PYTHONPATH")
    assert environment()["PYTHONPATH"] == str(ROOT)


def test_joined_scores_are_those_of_the_package() -> None:
    from pesq import pesq

    crops = make_crops(2, 0.5, 16_000)
    joined = JoinedPesq()
    try:
        found = joined.score(crops["clean"], crops["noisy"])
        assert joined.score(crops["clean"][:1], np.zeros_like(crops["clean"][:1])) == [-1.0]
    finally:
        joined.close()
    assert found == [pesq(16_000, c, n, "wb") for c, n in zip(crops["clean"], crops["noisy"], strict=True)]


@pytest.mark.subprocess
def test_unknown_modes_are_refused() -> None:
    words = [sys.executable, "-m", "experiments.benchmark", "--against", "torch", "--modes", "fast"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("--modes fast: there are eager-fp32")
