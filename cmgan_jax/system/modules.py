"""Modules of the user's own, which are found in the working directory, too."""

import importlib
import os
import sys
from types import ModuleType


def import_paths() -> list[str]:
    """Where modules are looked for, the working directory last: for processes that import the same ones."""
    here = os.getcwd()
    paths = [os.path.abspath(path) for path in sys.path]
    return paths if here in paths else [*paths, here]


def import_own(name: str) -> ModuleType:
    """Import a module; a program that pip installed does not look into the working directory by itself.

    Args:
        name: dotted name of the module.

    Raises:
        Exception: whatever the import raises, also the module's own code.
    """
    before = list(sys.path)
    sys.path[:] = import_paths()
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = before
