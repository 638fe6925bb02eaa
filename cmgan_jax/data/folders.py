"""The files below a folder that somebody else filled: links, loops, pipes and all."""

import os
from collections.abc import Collection
from pathlib import Path

from cmgan_jax.errors import UserError, printable


def files_below(folder: Path, suffixes: Collection[str], unreadable: bool = False) -> list[Path]:
    """Find files by suffix, opening none.

    Args:
        folder: where to look; linked folders are followed, each of them once.
        suffixes: lower-case; names match in any case.
        unreadable: list folders that cannot be read, too, instead of raising an error.

    Returns:
        Everything of such a name that is not a folder, sorted: also links that lead nowhere, and pipes, for whoever
        opens them has a reason to tell. What is hidden, or in a hidden folder, is left out.

    Raises:
        UserError: a folder cannot be read, the first one in any case.
    """
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        if not unreadable or Path(error.filename) == folder:
            raise UserError(f"{printable(error.filename)}: {error.strerror}") from error
        found.append(Path(error.filename))

    visited: set[str] = set()
    for here, below, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(here)
        if real in visited:
            below.clear()
            continue
        visited.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        paths = (Path(here, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in suffixes]
    return sorted(found)
