"""The folder that a preparation makes: built under another name, and nothing in it that somebody else made is touched.

Everything is built in ``OUT.partial``, which takes OUT's name when the last file is right: a folder of that name is
whole. A folder is a preparation's own if its manifest or its journal says so, and if it holds nothing else.
"""

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from cmgan_jax.data import manifest
from cmgan_jax.data.manifest import Manifest
from cmgan_jax.errors import UserError, printable
from cmgan_jax.system.outputs import settle
from cmgan_jax.system.temporaries import beside, is_temporary

JOURNAL = ".prepare_data.jsonl"
"""In a folder that is being made: its first line names the corpus, the others what has been done."""

_SHOWN = 5


def partial(out: Path) -> Path:
    """Where a folder is built before it is whole."""
    named = out if out.name not in ("", "..") else Path(os.path.abspath(out))
    return named.with_name(f"{named.name}.partial")


def refuse_foreign(here: Path, corpus: str, targets: Collection[str], extra: Collection[str] = ()) -> None:
    """Refuse a folder with anything in it that this preparation did not make.

    Args:
        here: the folder; it may be absent.
        corpus: what the preparation makes, as the manifest and the journal have it.
        targets: the files that it makes, from the folder, with forward slashes.
        extra: other files that may lie there.

    Raises:
        UserError: there is such a file, or something that is no folder.
    """
    if not here.exists():
        return
    if not here.is_dir():
        raise UserError(f"{here}: a file is in the way; choose another --out")
    own = maker(here) == corpus
    known = {*targets, *extra, manifest.NAME} if own else set()
    # A run that was killed leaves a journal, and may leave temporary files; one killed at once an empty journal.
    killed = own and next(journal(here), None) is not None
    if killed or ((here / JOURNAL).is_file() and not (here / JOURNAL).stat().st_size):
        known.add(JOURNAL)
    present = [path.relative_to(here).as_posix() for path in here.rglob("*") if not path.is_dir()]
    strange = sorted(name for name in present if name not in known and not (killed and _is_temporary(name)))
    if strange:
        more = f" and {len(strange) - _SHOWN} more" * (len(strange) > _SHOWN)
        raise UserError(
            f"{printable(here)} holds files that are not of this source: "
            f"{', '.join(map(printable, strange[:_SHOWN]))}{more}; choose another --out, or delete them"
        )


def maker(here: Path) -> str | None:
    """Which corpus a folder is, or is to become; None where no preparation made it.

    Raises:
        UserError: its manifest is damaged.
    """
    whole = manifest.read(here)
    if whole is not None:
        return whole.corpus
    first = next(journal(here), None)
    return first.get("corpus") if first else None


def begin(work: Path, corpus: str, known: Collection[dict[str, Any]] = ()) -> None:
    """Make a folder this preparation's own, and clear away what a killed run of it left. It is not whole from here on.

    Args:
        work: absent, empty, or accepted by `refuse_foreign`.
        corpus: what it is to become.
        known: lines of the journal about what is in it already.
    """
    work.mkdir(parents=True, exist_ok=True)
    if next(journal(work), None) is not None:
        for path in [path for path in work.rglob(".*.tmp") if _is_temporary(path.name)]:
            path.unlink()
    temporary = beside(work / JOURNAL)
    temporary.write_text(_lines({"corpus": corpus}, *known), encoding="utf-8")
    settle(temporary, work / JOURNAL)
    (work / manifest.NAME).unlink(missing_ok=True)


def record(work: Path, *lines: dict[str, Any]) -> None:
    """Add lines to the journal."""
    with open(work / JOURNAL, "a", encoding="utf-8") as file:
        file.write(_lines(*lines))


def abandon(work: Path) -> None:
    """Remove a folder in which nothing has been made."""
    (work / JOURNAL).unlink()
    for folder, _, _ in os.walk(work, topdown=False):
        os.rmdir(folder)


def journal(here: Path) -> Iterator[dict[str, Any]]:
    """The lines of a folder's journal, without a last one that a kill has cut.

    Raises:
        UserError: it is damaged.
    """
    try:
        for line in _whole_lines(here).splitlines():
            content = json.loads(line)
            if not isinstance(content, dict):
                raise ValueError(f"no object: {line[:40]!r}")
            yield content
    except ValueError as error:
        raise UserError(f"{here / JOURNAL}: damaged ({error}); delete {here} and prepare it anew") from error


def finish(work: Path, out: Path, whole: Manifest) -> None:
    """Write the manifest, and give the folder its name."""
    manifest.write(work, whole)
    (work / JOURNAL).unlink()
    settle(work, out)


def _lines(*lines: dict[str, Any]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def _whole_lines(here: Path) -> bytes:
    try:
        content = (here / JOURNAL).read_bytes()
    except FileNotFoundError:
        return b""
    return content[: content.rfind(b"\n") + 1]


def _is_temporary(name: str) -> bool:
    return is_temporary(PurePosixPath(name).name)
