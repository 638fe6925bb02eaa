"""The digest of parameters, and what a run records of its surroundings."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmgan_jax.training import provenance
from cmgan_jax.training.provenance import PACKAGES, describe, digest

PARAMS = {"conv": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3, np.float32)}}


def test_digest_does_not_depend_on_order_or_place() -> None:
    turned = {"conv": dict(reversed(PARAMS["conv"].items()))}
    assert list(turned["conv"]) != list(PARAMS["conv"])
    strided = {"conv": PARAMS["conv"] | {"kernel": np.asfortranarray(PARAMS["conv"]["kernel"])}}
    for same in (turned, strided, jax.tree.map(jnp.asarray, PARAMS)):
        assert digest(same) == digest(PARAMS)
    assert re.fullmatch("[0-9a-f]{64}", digest(PARAMS))


def test_digest_changes_with_every_byte_and_name() -> None:
    seen = {digest(PARAMS)}
    for name, leaf in PARAMS["conv"].items():
        for byte in range(leaf.nbytes):
            changed = leaf.copy()
            changed.view(np.uint8).reshape(-1)[byte] ^= 1
            seen.add(digest({"conv": PARAMS["conv"] | {name: changed}}))
    assert len(seen) == 1 + 4 * 9
    swapped = {"conv": {"kernel": PARAMS["conv"]["bias"], "bias": PARAMS["conv"]["kernel"]}}
    assert digest(swapped) not in seen
    assert digest({"other": PARAMS["conv"]}) not in seen


def test_surroundings_are_ready_for_json() -> None:
    about = describe("f1n93r", "12 pairs")
    assert json.loads(json.dumps(about)) == about
    assert set(about["versions"]) == set(PACKAGES)
    assert about["versions"]["jax"] == jax.__version__
    assert about["data"] == {"fingerprint": "f1n93r", "description": "12 pairs"}
    assert about["device"].startswith("cpu")
    # A commit in a checkout, nothing in an installed package.
    assert about["source"] == {} or re.fullmatch("[0-9a-f]{40}", about["source"]["commit"])


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def revision(package: Path, **environment: str) -> dict[str, str | bool]:
    """What the file `provenance.py` of a package that lies there records of its source."""
    code = (
        "import json; from cmgan_jax.training.provenance import describe; print(json.dumps(describe('', '')['source']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=package.parent,
        env=os.environ | {"PYTHONPATH": str(package.parent), "JAX_PLATFORMS": "cpu"} | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(result.stdout)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Somebody's repository, with a commit and a file that is not committed."""
    (tmp_path / "thesis.txt").write_text("chapter one")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "thesis.txt")
    git(tmp_path, "commit", "-qm", "begin")
    (tmp_path / "notes.txt").write_text("to be sorted")
    return tmp_path


def install(folder: Path) -> Path:
    """The package's modules that `provenance` needs, copied as an installation would."""
    package = folder / "cmgan_jax"
    (package / "training").mkdir(parents=True)
    for name in ("__init__.py", "training/__init__.py", "training/provenance.py"):
        shutil.copy(Path(provenance.__file__).parents[1] / name, package / name)
    return package


@pytest.mark.parametrize("ignored", [True, False])
def test_an_installation_inside_somebodys_repository_records_no_commit_of_theirs(
    repository: Path, ignored: bool
) -> None:
    if ignored:
        (repository / ".gitignore").write_text(".venv\n")
    assert revision(install(repository / ".venv/lib/python3/site-packages")) == {}


def test_a_checkout_records_its_commit_and_whether_the_package_was_changed(repository: Path) -> None:
    """Also a copy of the package that somebody keeps in a repository of their own: other changes there do not count."""
    package = install(repository / "vendor")
    git(repository, "add", "vendor")
    git(repository, "commit", "-qm", "take in")
    commit = git(repository, "rev-parse", "HEAD")
    assert revision(package) == {"commit": commit, "dirty": False}
    (package / "__init__.py").write_text("changed = True")
    assert revision(package) == {"commit": commit, "dirty": True}


def test_variables_that_lead_git_elsewhere_are_passed_over(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As git sets them for the commands that its hooks run."""
    package = install(tmp_path_factory.mktemp("elsewhere"))
    assert revision(package, GIT_DIR=str(repository / ".git"), GIT_WORK_TREE=str(repository)) == {}
    git(package.parent, "init", "-q")
    git(package.parent, "add", "cmgan_jax")
    git(package.parent, "commit", "-qm", "begin")
    expected = {"commit": git(package.parent, "rev-parse", "HEAD"), "dirty": False}
    assert revision(package, GIT_DIR=str(repository / ".git"), GIT_WORK_TREE=str(repository)) == expected
