"""Where a run came from: versions, source revision, corpus, machine."""

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np

PACKAGES = ("cmgan-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pesq", "soundfile")


def describe(fingerprint: str, corpus: str) -> dict[str, Any]:
    """What a run records of its surroundings, ready for JSON."""
    devices = jax.local_devices()
    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "source": _revision(),
        "data": {"fingerprint": fingerprint, "description": corpus},
        "device": f"{devices[0].platform}: {devices[0].device_kind}",
    }


def digest(params: Any) -> str:
    """SHA-256 of a tree of parameters: names and bytes, in a fixed order."""
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
    """Commit of the source tree and whether it was changed since; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(here, "status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True).stdout.strip()
