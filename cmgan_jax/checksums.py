"""Sums over a folder's files, written when all of them are: a folder whose sums agree is whole."""

import hashlib
import json
from pathlib import Path

NAME = "checksums.json"


def write(folder: Path) -> None:
    """Write size and SHA-256 of every file below a folder into it, as the last of its files."""
    files = {str(path.relative_to(folder)): _describe(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / NAME).write_text(json.dumps(files, indent=1))


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that `write` completed: the first file that is missing or differs; None: nothing."""
    try:
        expected = json.loads((folder / NAME).read_text())
        sizes = {name: (size, sha256) for name, (size, sha256) in expected.items()}
    except FileNotFoundError:
        return f"{NAME} is missing: it was not written to its end"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"{NAME} cannot be read ({error})"
    for name, (size, sha256) in sizes.items():
        path = folder / name
        try:
            found = path.stat().st_size
            if found != size:
                return f"{name} has {found} bytes of {size}"
            if _describe(path)[1] != sha256:
                return f"{name} has other content than was written"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None


def _describe(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
