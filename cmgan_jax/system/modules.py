"""Import of the user's own modules, which may also lie in the working directory."""

import importlib
import os
import sys
from types import ModuleType


def import_paths() -> list[str]:
    """Module search path with the working directory at the end, also for worker processes with the same modules."""
    here = os.getcwd()
    paths = [os.path.abspath(path) for path in sys.path]
    return paths if here in paths else [*paths, here]


def import_own(name: str) -> ModuleType:
    """Import a module, also from the working directory, which programs installed by pip do not search by default.

    Args:
        name: dotted name of the module.

    Raises:
        Exception: any exception that the import or the module's own code raises.
    """
    before = list(sys.path)
    sys.path[:] = import_paths()
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = before
