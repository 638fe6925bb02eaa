"""The artefact: what it enhances is what the enhancer enhances, without the model's code."""

import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_enhance import CONFIG, noise, random_variables

from cmgan_jax.cli.export import export_enhancer
from cmgan_jax.errors import UserError
from cmgan_jax.inference.enhance import WindowConfig
from cmgan_jax.inference.enhancer import Enhancer
from cmgan_jax.inference.export import load_artefact
from cmgan_jax.inference.weights import Weights
from cmgan_jax.models import backends
from cmgan_jax.recipes import from_dict, override, to_dict

pytest.importorskip("flatbuffers", reason="jax.export serialises with flatbuffers, which is not installed")

# One room a piece: windows of 1/4 s are not halved to less than four shapes, yet all are tiny.
WINDOWS = WindowConfig(whole=0.25, window=0.25, clamp="windows")
# Crops of 0.1 s: windows have distances that these do not have, so clamping changes the result.
WEIGHTS = Weights(random_variables(), override(CONFIG, {"data.crop_seconds": 0.1}), Path("runs/x/best/7"), 7)

ELSEWHERE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("cmgan_jax.models", "cmgan_jax.training", "flax")):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Refuse())
import numpy as np
from cmgan_jax.inference.export import load_artefact
audio = np.load(sys.argv[2])
np.save(sys.argv[3], load_artefact(sys.argv[1]).enhance(audio, 16000))
"""


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artefact") / "enhancer.zip"
    export_enhancer(WEIGHTS, WINDOWS, path)
    return path


@pytest.mark.subprocess
def test_an_artefact_enhances_as_the_enhancer_without_the_models_code(artefact: Path, tmp_path: Path) -> None:
    # Three windows: whole pieces and windows, where the time attention's tables are clamped, take different weights.
    audio = noise(9_000)
    np.save(tmp_path / "in.npy", audio)
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, artefact, tmp_path / "in.npy", tmp_path / "out.npy"], check=True, timeout=120
    )
    found, expected = np.load(tmp_path / "out.npy"), Enhancer(WEIGHTS, WINDOWS).enhance(audio, 16_000)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_clamped_tables_alone_are_there_twice(artefact: Path) -> None:
    with zipfile.ZipFile(artefact) as archive, archive.open("weights.npz") as file:
        twice = [name for name in np.load(file).files if name.startswith("windows-")]
    assert len(twice) == CONFIG.generator.blocks


def test_an_artefact_tells_the_numbers_of_its_network(artefact: Path) -> None:
    with zipfile.ZipFile(artefact) as archive:
        about = json.loads(archive.read("about.json"))
    assert from_dict(about["provenance"]["config"]) == WEIGHTS.config
    assert about["spectral"] == to_dict(WEIGHTS.config.spectral)


def test_an_artefact_has_no_kernels_that_another_machine_may_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the network itself is computed with."""
    asked = set()
    monkeypatch.setattr(backends, "uses_kernels", lambda backend: bool(asked.add(backend)))
    config = override(WEIGHTS.config, {"data.threads": 3, "generator.backend": "triton"})  # Traced by nobody before.
    export_enhancer(replace(WEIGHTS, config=config), WINDOWS, tmp_path / "enhancer.zip")
    assert asked == {"xla"}


def test_what_is_no_artefact_is_refused(artefact: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        export_enhancer(WEIGHTS, WINDOWS, artefact)
    (tmp_path / "text").write_text("hello")
    damaged = tmp_path / "cut"
    damaged.write_bytes(artefact.read_bytes()[:1000])
    other = tmp_path / "other"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("about.json", '{"format": 99}')
    inflating = tmp_path / "inflating"
    with zipfile.ZipFile(inflating, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.json", " " * 2**20)
    inner = tmp_path / "inner"
    packed = io.BytesIO()
    np.savez_compressed(packed, np.zeros(2**20))
    with zipfile.ZipFile(artefact) as whole, zipfile.ZipFile(inner, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, packed.getvalue() if name == "weights.npz" else whole.read(name))
    for path, words in (
        (tmp_path / "absent", "cannot read .*absent"),
        (tmp_path / "text", "text is no artefact"),
        (damaged, "cut is no artefact"),
        (other, "format 99"),
        (inflating, "a member is compressed"),
        (inner, "a member is compressed"),
    ):
        with pytest.raises(UserError, match=words):
            load_artefact(path)
