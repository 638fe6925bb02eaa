"""Mutation testing, i.e. whether the tests detect deliberate mistakes: `python -m experiments.mutations`.

It makes one mistake after another in a copy of the tree, and runs the tests there that should detect it. Exit status: 0
if each was detected, otherwise 1.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from cmgan_jax.cli._cli import run
from cmgan_jax.errors import UserError
from cmgan_jax.system.outputs import write_text
from experiments.mutation_list import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[1]
_COPIED = ("cmgan_jax", "docs", "experiments", "results", "tests", "*.md", "*.toml", "*.txt", "*.yml", "Makefile")
LIMIT = 900
"""Seconds after which the tests of one mistake count as hung."""


@dataclass(frozen=True)
class Arguments:
    """Make mistakes in a copy of the tree, one after another, and run the tests that should detect them."""

    only: str = ""
    """Words of a fault or a file name: try only these mistakes, and keep the records of the others."""
    record: Path = ROOT / "results" / "mutations.json"
    """Results file; a page of the same name with the suffix .md is written beside it."""


def mutated(mutation: Mutation, source: str) -> str:
    """Return the content of the file with the mistake.

    Raises:
        UserError: the text does not occur exactly once.
    """
    if (count := source.count(mutation.text)) != 1:
        raise UserError(
            f"{mutation.file}: {mutation.text!r} stands there {count} times and not once; correct the list of mutations"
        )
    return source.replace(mutation.text, mutation.replacement)


def copy_tree(tree: Path) -> None:
    """Copy what tests need, including the whole package, as Python would take missing parts from the installed one."""
    tree.mkdir()
    for path in (found for pattern in _COPIED for found in ROOT.glob(pattern)):
        if path.is_dir():
            shutil.copytree(path, tree / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, tree)


def first_failure(tree: Path, tests: tuple[str, ...]) -> str | None:
    """Run tests in a copy of the tree.

    Returns:
        The test that failed first; None if all passed.

    Raises:
        UserError: the tests could not be run at all, or hang.
    """
    words = [sys.executable, "-m", "pytest", "-q", "-n0", "-x", "-rfE", "--no-header", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "1000"}
    # Programs that a mistake does not affect need not be compiled again.
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "programs"))
    try:
        done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{' '.join(tests)}: no end after {LIMIT} s") from error
    if done.returncode == 0:
        return None
    failed = _failed(done.stdout)
    if done.returncode != 1 or not failed:
        raise UserError(f"{' '.join(tests)}: the tests could not be run\n{done.stdout}{done.stderr}")
    return failed[0]


def _failed(told: str) -> list[str]:
    """Extract the failed tests, without their parameters, from pytest's output."""
    lines = (line.partition("[")[0].split() for line in told.splitlines() if line.startswith(("FAILED ", "ERROR ")))
    return [words[1] for words in lines]


def try_all(mutations: list[Mutation], console: Console) -> list[dict[str, Any]]:
    """Make each mistake, run its tests, and return a record of each.

    Raises:
        UserError: a test fails without any mistake, or cannot be run.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        copy_tree(tree)
        every = tuple(dict.fromkeys(test for mutation in mutations for test in mutation.tests))
        if failed := first_failure(tree, every):
            raise UserError(f"{failed} fails without any mistake; correct that first")
        records = []
        for mutation in mutations:
            path, began = tree / mutation.file, time.monotonic()
            sound = path.read_text()
            path.write_text(mutated(mutation, sound))
            noticed = first_failure(tree, mutation.tests)
            path.write_text(sound)
            console.print(f"{time.monotonic() - began:4.0f} s  {mutation.fault}: {noticed or 'NOT NOTICED'}")
            records.append(asdict(mutation) | {"noticed_by": noticed})
        return records


def page(records: list[dict[str, Any]]) -> str:
    """Format the records as Markdown."""
    rows = []
    for record in records:
        noticed = f"`{record['noticed_by']}`" if record["noticed_by"] else "none"
        rows.append(f"| {record['fault']} | `{record['file']}` | {noticed} |")
    return "\n".join(
        [
            "# Whether the tests notice mistakes",
            "",
            "Command: `make mutations`, which writes this page and `mutations.json`. Each mistake is made alone",
            "in a copy of the tree (`experiments/mutation_list.py` has the texts), and the tests that should",
            "notice it run there until one fails. The same tests pass without a mistake. `../shared` is absent",
            "from the copy.",
            "",
            f"{len(records)} mistakes, {sum(record['noticed_by'] is not None for record in records)} noticed.",
            "",
            "| mistake | in | the first test that fails |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    """Parse arguments, try the mistakes, and write the record and the page."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.mutations")
    console = Console(highlight=False, soft_wrap=True)
    chosen = [each for each in MUTATIONS if arguments.only in each.fault or arguments.only in each.file]
    if not chosen:
        raise UserError(f"--only {arguments.only}: no mistake has these words in its description or its file")
    known = {}
    if arguments.only and arguments.record.exists():
        known = {record["fault"]: record for record in json.loads(arguments.record.read_text())}
    known |= {record["fault"]: record for record in try_all(chosen, console)}
    records = [known[each.fault] for each in MUTATIONS if each.fault in known]
    write_text(arguments.record, json.dumps(records, indent=2, ensure_ascii=False) + "\n")
    write_text(arguments.record.with_suffix(".md"), page(records))
    return 0 if all(record["noticed_by"] for record in records) else 1


if __name__ == "__main__":
    run(main)
