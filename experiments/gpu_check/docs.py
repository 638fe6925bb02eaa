"""Put the newest record's figures into the documents: `python -m experiments.gpu_check.docs`; `--check` only looks.

The section stands between two comments in `docs/performance.md`. Where no record of a GPU is there it says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from cmgan_jax.benchmarking.gpu_records import RECORDS, newest_record
from cmgan_jax.cli._cli import run
from cmgan_jax.errors import UserError
from cmgan_jax.system.outputs import write_text
from experiments.gpu_check.digests import Figure

BEGIN, END = "<!-- newest check on a GPU: begin -->", "<!-- newest check on a GPU: end -->"
"""What the section stands between."""
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
NOTHING = "No check on a GPU was run: there is no record in `results/gpu/`."
"""What the section says where there is no record."""
COMMAND = "python -m experiments.gpu_check --out results/gpu/NAME"


@dataclass(frozen=True)
class Arguments:
    """Put the newest record's figures into docs/performance.md."""

    check: bool = False
    """Change nothing; the exit status is 1 where the page does not hold the newest figures."""
    records: Path = RECORDS
    """Folder of the records."""
    page: Path = PAGE
    """The document."""


def section(newest: tuple[Path, dict[str, Any]] | None) -> str:
    """The section in Markdown.

    Args:
        newest: path and content of the newest record; None: nothing was run.
    """
    if newest is None:
        return f"{NOTHING} `{COMMAND}` makes one."
    path, record = newest
    machine, revision = record["machine"], record.get("revision", {})
    lines = [
        f"{machine['device']}, {machine['cores']} cores, driver {record['driver'] or 'unknown'}, jax {machine['jax']}, "
        f"revision `{revision.get('commit', 'unknown')[:12]}`{' with changes' if revision.get('dirty') else ''}, "
        f"{record['date'][:10]} (`results/gpu/{path.parent.name}`, by `{COMMAND}`).",
        "",
        "| part | what | found | goal |",
        "|---|---|---|---|",
    ]
    left = []
    for name, part in record["parts"].items():
        digest = part.get("digest", {})
        for goal in digest.get("goals", ()):
            kept = "reached" if goal["met"] else "missed"
            lines.append(_row(name, goal["name"], goal["found"], f"{goal['wanted']} ({kept})"))
        lines += [_row(name, figure["name"], Figure(**figure).shown, "") for figure in digest.get("figures", ())]
        if part["state"] != "done":
            left.append(f"`{name}` {'failed' if part['state'] == 'failed' else 'was left out'}")
    return "\n".join([*lines, "", f"Without a result: {', '.join(left)}." if left else ""]).rstrip()


def _row(*cells: str) -> str:
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"


def with_section(text: str, content: str) -> str:
    """A document with that content between the two comments.

    Raises:
        UserError: it lacks them.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"the page lacks {BEGIN} or {END}: put both where the figures belong")
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def main() -> int:
    """Parse, make the section, write or compare."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.gpu_check.docs", config=(tyro.conf.FlagCreatePairsOff,))
    old = arguments.page.read_text(encoding="utf-8")
    new = with_section(old, section(newest_record(arguments.records)))
    if arguments.check:
        return 0 if new == old else 1
    write_text(arguments.page, new)
    return 0


if __name__ == "__main__":
    run(main)
