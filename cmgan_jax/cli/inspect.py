"""Show where a model comes from: `cmgan inspect RUN|CHECKPOINT|FILE [--json]`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cmgan_jax.cli._terminal import table_console
from cmgan_jax.diagnosis import origin
from cmgan_jax.errors import UserError
from cmgan_jax.system.outputs import plain

WIDTH = 120


@dataclass(frozen=True)
class Arguments:
    """Show what a run, a checkpoint or a file of weights comes from: the old code, the new code, or this project."""

    source: Annotated[Path, tyro.conf.Positional]
    """A run folder, a checkpoint in it, or a file of weights (PyTorch or safetensors)."""
    json: bool = False
    """Print JSON instead of text."""


def inspect(path: Path) -> dict[str, Any]:
    """Collect everything that is known about a model.

    Raises:
        UserError: the path does not exist, or cannot be read.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; name a run folder, a checkpoint in it, or a weights file")
    if path.is_dir():
        return origin.describe(path)
    from cmgan_jax.diagnosis.torch_origin import describe_torch  # jax is imported only here, through flax

    return describe_torch(path)


def show(content: dict[str, Any], console: Console) -> None:
    """Print the description: the answer, then every number that differs from its recipe, then the rest."""
    console.print(f"[bold]{escape(content['sentence'])}[/]\n")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in content.items():
        if name not in ("sentence", "code", "differences") and value not in (None, {}, []):
            table.add_row(name.replace("_", " "), escape(_words(value)))
    console.print(table)
    ours = "differences" in content
    if ours and not content["revision"]:
        console.print("\nThe source's revision is unknown: it did not run from a checkout.")
    if differing := content.get("differences"):
        console.print("\n[bold]Numbers that are not those of its recipe and preset[/]")
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("number", "recipe", "here"):
            table.add_column(heading)
        for name, values in differing.items():
            table.add_row(name, *(escape(_words(values[side])) for side in ("recipe", "here")))
        console.print(table)
    elif ours:
        console.print("\nEvery number is that of its recipe and preset.")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "absent"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Parse arguments, inspect, and print."""
    arguments = tyro.cli(Arguments, prog="cmgan inspect", config=(tyro.conf.FlagCreatePairsOff,))
    content = plain(inspect(arguments.source))
    if arguments.json:
        print(json.dumps(content, indent=1, allow_nan=False))
        return
    show(content, table_console(WIDTH))
