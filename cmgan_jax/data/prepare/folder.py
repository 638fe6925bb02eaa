"""The output folder of a data preparation: it is built under another name, and files of others are never touched.

Everything is built in ``OUT.partial``, which is renamed to OUT when the last file is correct, so a folder of that name
is complete. A folder belongs to a preparation if its manifest or its journal says so, and if it holds nothing else.
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
"""Journal of an unfinished folder: the first line names the corpus, the others what has been done."""

_SHOWN = 5


def partial(out: Path) -> Path:
    """Return the path where a folder is built before it is complete."""
    named = out if out.name not in ("", "..") else Path(os.path.abspath(out))
    return named.with_name(f"{named.name}.partial")


def refuse_foreign(here: Path, corpus: str, targets: Collection[str], extra: Collection[str] = ()) -> None:
    """Raise an error if a folder holds anything that this preparation did not make.

    Args:
        here: the folder, which need not exist.
        corpus: name of the corpus that the preparation makes, as in the manifest and the journal.
        targets: the files that it makes, as paths below the folder with forward slashes.
        extra: other files that are allowed there.

    Raises:
        UserError: there is such a file, or `here` is not a folder.
    """
    if not here.exists():
        return
    if not here.is_dir():
        raise UserError(f"{here}: a file is in the way; choose another --out")
    own = maker(here) == corpus
    known = {*targets, *extra, manifest.NAME} if own else set()
    # A killed run leaves a journal, perhaps temporary files, and, if killed at once, an empty journal.
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
    """Return which corpus a folder holds or is to hold; None where no preparation made it.

    Raises:
        UserError: its manifest is damaged.
    """
    whole = manifest.read(here)
    if whole is not None:
        return whole.corpus
    first = next(journal(here), None)
    return first.get("corpus") if first else None


def begin(work: Path, corpus: str, known: Collection[dict[str, Any]] = ()) -> None:
    """Claim a folder, remove what a killed run left in it, and mark it as incomplete.

    Args:
        work: absent, empty, or accepted by `refuse_foreign`.
        corpus: name of the corpus to be made.
        known: journal lines about what the folder already holds.
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
    """Append lines to the journal."""
    with open(work / JOURNAL, "a", encoding="utf-8") as file:
        file.write(_lines(*lines))


def abandon(work: Path) -> None:
    """Remove a folder in which nothing has been made."""
    (work / JOURNAL).unlink()
    for folder, _, _ in os.walk(work, topdown=False):
        os.rmdir(folder)


def journal(here: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a folder's journal, without a last line that was cut off by a kill.

    Raises:
        UserError: the journal is damaged.
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
    """Write the manifest, and rename the folder to its final name."""
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
