"""Which optional packages each part of the program needs, and the one line that tells of a missing one."""

from typing import NamedTuple


class Extra(NamedTuple):
    """A set of optional packages, which `pip install 'cmgan-jax[NAME]'` installs.

    Attributes:
        purpose: what needs them, as the subject of a sentence.
        modules: the packages, by the names under which they are imported.
    """

    purpose: str
    modules: tuple[str, ...]


EXTRAS = {
    "train": Extra("training", ("optax", "orbax", "grain", "scipy", "pesq", "tensorboardX", "G722")),
    "eval": Extra("scoring", ("pesq",)),
    "export": Extra("export to StableHLO", ("flatbuffers",)),
}
"""By the name that pip knows; `pyproject.toml` has the versions."""


class MissingPackages(ImportError):
    """A name of the library needs packages that are not installed; the message says which extra has them."""


def install(extra: str) -> str:
    """One line: what needs more packages, and the command that installs them."""
    return f"{EXTRAS[extra].purpose} needs more packages: pip install 'cmgan-jax[{extra}]'"


def lacking(error: BaseException, extra: str = "") -> str | None:
    """One line that explains why an import failed, if an optional package is missing.

    Args:
        error: what was raised.
        extra: the extra that is named where several have the package; empty: the first that has it.

    Returns:
        The line, or None where the error has another reason.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    module = error.name.partition(".")[0]
    names = [name for name in (extra, *EXTRAS) if name and module in EXTRAS[name].modules]
    return install(names[0]) if names else None
