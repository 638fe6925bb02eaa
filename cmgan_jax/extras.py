"""Optional packages that parts of the program need, and the messages for missing ones."""

from typing import NamedTuple


class Extra(NamedTuple):
    """A set of optional packages, which `pip install 'cmgan-jax[NAME]'` installs.

    Attributes:
        purpose: what needs them, as the subject of a sentence.
        modules: names under which the packages are imported.
    """

    purpose: str
    modules: tuple[str, ...]


EXTRAS = {
    "train": Extra("training", ("optax", "orbax", "grain", "scipy", "pesq", "tensorboardX", "G722")),
    "eval": Extra("scoring", ("pesq",)),
    "export": Extra("export to StableHLO", ("flatbuffers",)),
}
"""Extras by their name in pip; `pyproject.toml` has the versions of the packages."""


class MissingPackages(ImportError):
    """Packages are not installed that a name of the library needs; the message says which extra has them."""


def install(extra: str) -> str:
    """Message of one line that says what needs more packages, and which command installs them."""
    return f"{EXTRAS[extra].purpose} needs more packages: pip install 'cmgan-jax[{extra}]'"


def lacking(error: BaseException, extra: str = "") -> str | None:
    """Message of one line for an import that failed because an optional package is missing.

    Args:
        error: the exception.
        extra: preferred extra to name if several include the package; empty: the first that does.

    Returns:
        The message, or None if the error has another cause.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    module = error.name.partition(".")[0]
    names = [name for name in (extra, *EXTRAS) if name and module in EXTRAS[name].modules]
    return install(names[0]) if names else None
