"""Packages from a folder of wheels, for a machine without a network; this module needs the standard library alone."""

import argparse
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cmgan_jax.errors import UserError

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
KERNELS = ("triton", "jax-triton")
"""Packages of the extra `gpu` that are installed by themselves: JAX is not exchanged."""
LINES = 5
"""Last lines of pip's output that a refusal quotes."""


def name_of(requirement: str) -> str:
    """The package that a requirement such as `pesq==0.0.4` names, without extras and versions."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]


def missing(requirements: Iterable[str]) -> list[str]:
    """The requirements whose package is not installed, in whatever version."""
    found = []
    for requirement in requirements:
        try:
            version(name_of(requirement))
        except PackageNotFoundError:
            found.append(requirement)
    return found


def requirements(project: Path = PROJECT) -> tuple[list[str], list[str]]:
    """What the check needs, and what kernels need besides, as the project declares it."""
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    optional = declared["optional-dependencies"]
    kernels = [requirement for requirement in optional["gpu"] if name_of(requirement) in KERNELS]
    return [*declared["dependencies"], *optional["train"]], kernels


def install(packages: list[str], folder: Path) -> str:
    """Have pip install packages from the folder, and from nowhere else.

    Returns:
        Nothing where it worked; otherwise the end of what pip said.
    """
    words = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-index"]
    done = subprocess.run([*words, "--find-links", str(folder), *packages], capture_output=True, text=True, check=False)
    importlib.invalidate_caches()
    return "" if done.returncode == 0 else "\n".join((done.stdout + done.stderr).strip().splitlines()[-LINES:])


def prepare(words: list[str]) -> None:
    """Install what is missing if the command line names a folder with `--wheels`.

    Raises:
        UserError: there is no such folder, or it lacks a package that the check cannot do without.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--wheels", type=Path)
    folder = parser.parse_known_args(words)[0].wheels
    if folder is None:
        return
    if not folder.is_dir():
        raise UserError(f"--wheels {folder}: no such folder; experiments/gpu_check/__main__.py says how to make it")
    needed, kernels = (missing(wanted) for wanted in requirements())
    if needed and (why := install(needed, folder)):
        raise UserError(
            f"--wheels {folder}: pip could not install {' '.join(map(name_of, needed))} from it:\n{why}\nadd what is "
            "missing; experiments/gpu_check/__main__.py says how"
        )
    if kernels and (why := install(kernels, folder)):
        print(f"without {' and '.join(map(name_of, kernels))} kernels are left out: {why}", file=sys.stderr)
