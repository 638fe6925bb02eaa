"""The command `cmgan`: it finds the sub-command, and imports and runs only that one.

Nothing heavy is imported here, so that help, the version and a wrong name are answered at once.
"""

import difflib
import sys
from importlib import import_module
from typing import NamedTuple, NoReturn

from cmgan_jax.cli._cli import USER_ERROR, begin, run
from cmgan_jax.version import NAME, find_version


class Command(NamedTuple):
    """A sub-command.

    Attributes:
        module: its module in `cmgan_jax.cli`, which has `main`.
        summary: one line for the list of commands.
        extra: the optional packages that it may need.
        answers: whether standard output is its result; see `run`.
    """

    module: str
    summary: str
    extra: str = ""
    answers: bool = False


COMMANDS = {
    "enhance": Command("enhance", "clean recordings"),
    "evaluate": Command("evaluate", "score enhanced speech against clean speech", "eval", answers=True),
    "train": Command("train", "train a model, on one host or several", "train"),
    "diagnose": Command("diagnose", "say what went wrong in a training", answers=True),
    "compare": Command("compare", "train variants with several seeds and compare them", "train"),
    "export stablehlo": Command("export", "write an enhancer as StableHLO programs", "export"),
    "export weights": Command("export_torch", "write the networks for PyTorch, or as safetensors"),
    "inspect": Command("inspect", "say where a model comes from", answers=True),
    "import": Command("import_torch", "make a run folder of PyTorch's or safetensors files", "train"),
    "prepare": Command("prepare_data", "prepare a corpus to train on", "train"),
    "benchmark": Command("benchmark", "measure the time and memory of training and enhancement", "train", answers=True),
    "scaling": Command("scaling", "measure and predict training on more devices", "train", answers=True),
}
"""Commands by name; a name of two words is one of several forms of its first word."""


def main() -> NoReturn:
    """Run the sub-command that the command line names.

    Raises:
        SystemExit: always; the status is 2 if the command line names no sub-command.
    """
    begin()
    words = sys.argv[1:]
    name = next((n for n in COMMANDS if words[: len(n.split())] == n.split()), None)
    if name is None:
        sys.exit(_answer(words))
    command = COMMANDS[name]
    begin(command.extra)
    sys.argv = [f"cmgan {name}", *words[len(name.split()) :]]
    run(import_module(f"cmgan_jax.cli.{command.module}").main, command.answers, command.extra)


def _answer(words: list[str]) -> int:
    """Answer a command line that names no sub-command; return the exit status."""
    first = words[0] if words else ""
    if first in ("--help", "-h"):
        print(usage(COMMANDS))
        return 0
    if first == "--version":
        print(f"{NAME} {find_version()}")
        return 0
    forms = {name: command for name, command in COMMANDS.items() if name.split()[0] == first}
    if forms and words[1:2] in (["--help"], ["-h"]):
        print(usage(forms))
        return 0
    print(_complaint(words, list(forms)), file=sys.stderr)
    return USER_ERROR


def usage(commands: dict[str, Command]) -> str:
    """Make the help text: each command with its summary."""
    width = max(map(len, commands))
    lines = (f"  {name:{width}}  {command.summary}" for name, command in commands.items())
    return "\n".join(
        [
            "usage: cmgan COMMAND [FLAGS]     cmgan COMMAND --help     cmgan --version",
            "",
            "CMGAN removes noise from recordings of speech.",
            "",
            *lines,
        ]
    )


def _complaint(words: list[str], forms: list[str]) -> str:
    """Make an error message for a command line that names no sub-command."""
    if not words:
        return "cmgan needs a command; `cmgan --help` lists them"
    if forms:
        return f"cmgan {words[0]} has {len(forms)} forms: {' and '.join(f'`cmgan {form}`' for form in forms)}"
    known = [name.split()[0] for name in COMMANDS] + ["--help", "--version"]
    near = difflib.get_close_matches(words[0], known, 1)
    guess = f"did you mean `cmgan {near[0]}`? " if near else ""
    return f"cmgan has no command {words[0]!r}; {guess}`cmgan --help` lists the commands"
