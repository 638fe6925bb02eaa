"""The version of this software."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "cmgan-jax"
"""Name of the package in pip."""
UNKNOWN = "0+unknown"


def find_version(project: Path = Path(__file__).parents[1] / "pyproject.toml") -> str:
    """Find the installed version, or that of the source checkout if the package is not installed.

    Args:
        project: path of the checkout's `pyproject.toml`.

    Returns:
        A version such as `0.1.0`; `0+unknown` if neither is available.
    """
    try:
        return version(NAME)
    except PackageNotFoundError:
        pass
    try:
        content = tomllib.loads(project.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return UNKNOWN
    table = content.get("project", {})
    return str(table.get("version", UNKNOWN)) if table.get("name") == NAME else UNKNOWN
