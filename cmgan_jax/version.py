"""The version of this software."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "cmgan-jax"
"""How pip calls the package."""
UNKNOWN = "0+unknown"


def find_version(project: Path = Path(__file__).parents[1] / "pyproject.toml") -> str:
    """The installed version, or that of the checkout where nothing is installed.

    Args:
        project: `pyproject.toml` of the checkout.

    Returns:
        A version such as `0.1.0`; `0+unknown` where neither tells one.
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
