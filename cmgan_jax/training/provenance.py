"""Provenance of a run: versions, source revision, corpus, machine."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np

PACKAGES = ("cmgan-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pesq", "soundfile")

# Environment variables that point git to another repository than the folder's; git sets them for its hooks, for
# instance.
_ELSEWHERE = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"}


def describe(fingerprint: str, corpus: str, division: str = "") -> dict[str, Any]:
    """Describe the environment of a run, ready for JSON.

    Args:
        fingerprint: fingerprint of the corpus.
        corpus: human-readable description of the corpus.
        division: digest of the split into training and validation; empty: there is none.
    """
    devices = jax.local_devices()
    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "source": _revision(),
        "data": {"fingerprint": fingerprint, "description": corpus} | ({"division": division} if division else {}),
        "device": f"{devices[0].platform}: {devices[0].device_kind}",
    }


def digest(params: Any) -> str:
    """SHA-256 of a tree of parameters, over names and bytes in a fixed order."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _revision() -> dict[str, Any]:
    """Commit of the source tree, and whether it has uncommitted changes; empty if git does not track this package.

    An installation may lie inside an unrelated repository, whose commit says nothing about this package.
    """
    root = Path(__file__).parents[2]
    try:
        _git(root, "ls-files", "--error-unmatch", "--", str(Path(__file__).relative_to(root)))
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "cmgan_jax", "experiments")
        return {"commit": _git(root, "rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {}


def _git(folder: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    command = ["git", "-C", folder, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()
