"""Compare ways of training: `cmgan compare --study policies --data DIR --out runs/compare`.

Train every variant with every seed, and report them side by side. When started again, it continues where it stopped;
when started a second time in parallel (e.g. on another device), it takes runs that no process has. With --report it
trains nothing, and reports the existing runs.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from cmgan_jax.cli._cli import USER_ERROR
from cmgan_jax.cli._terminal import table_console
from cmgan_jax.cli.train import Arguments as TrainArguments
from cmgan_jax.cli.train import find_corpus
from cmgan_jax.comparison import page, schedule, tables
from cmgan_jax.comparison.conclusion import REFERENCE, Rules, conclude
from cmgan_jax.comparison.outcome import read_runs
from cmgan_jax.comparison.study import STUDIES, PlannedRun, Variant, parse_variant, plan
from cmgan_jax.config import Config
from cmgan_jax.data.corpus import Corpus
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import PRESETS, make_config
from cmgan_jax.runtime import cache_programs, find_devices, prepare_devices, prepare_programs
from cmgan_jax.system.outputs import refuse_folder, refuse_undecodable, write_json, write_text
from cmgan_jax.training.display import Display
from cmgan_jax.training.start import read_start

PLAIN_WIDTH = 200
"""Columns of a table that is piped, in which nothing is wrapped."""
RESULT, PAGE = "comparison.json", "comparison.html"


@dataclass(frozen=True)
class Arguments:
    """Train variants of one config with several seeds, and report them side by side with a conclusion."""

    out: Path
    """Folder of the comparison: a run folder for each variant and seed, comparison.json, comparison.html."""
    data: str = ""
    """The corpus of all runs, as for cmgan train."""
    start: Path | None = None
    """A run, a checkpoint or a file of weights from whose generator every run starts, with a fresh discriminator;
    without it, random weights."""
    study: str = "all"
    """Variants to compare: recipes, policies, all; or `custom` for those of --variants only."""
    variants: tuple[str, ...] = ()
    """Additional variants, each `NAME: recipe=NAME PATH=VALUE …`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each variant is trained with each seed; equal seeds see the same data in the same order."""
    reference: str = REFERENCE
    """The variant that the others are compared with."""
    rules: Rules = field(default_factory=Rules)
    """Thresholds for a collapse."""
    devices: int = 0
    """Devices per run; 0: as many as divide the batch."""
    report: bool = False
    """Train nothing; report the existing runs."""
    retry_diverged: bool = False
    """Also resume runs that diverged; without it they stay as they are, and the report names them."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """Config shared by all variants."""


def parse(words: list[str]) -> Arguments:
    """Parse the command line; the preset sets all other defaults."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="study")
    known, _ = first.parse_known_args(words)
    return tyro.cli(
        Arguments,
        args=words,
        prog="cmgan compare",
        default=Arguments(out=tyro.MISSING, config=make_config("recommended", known.preset)),
        description=f"{Arguments.__doc__}\n\nStudies: {', '.join(STUDIES)}, custom. Presets: {', '.join(PRESETS)}.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def chosen(arguments: Arguments) -> tuple[Variant, ...]:
    """Return the variants that the arguments name.

    Raises:
        UserError: the study is unknown.
    """
    if arguments.study not in (*STUDIES, "custom"):
        raise UserError(f"--study {arguments.study}: there are {', '.join(STUDIES)} and custom")
    return (*STUDIES.get(arguments.study, ()), *map(parse_variant, arguments.variants))


def refuse(arguments: Arguments, items: Sequence[PlannedRun]) -> None:
    """Check the arguments before the first run, rather than after days of training.

    Raises:
        UserError: a folder cannot be made, or the reference is not among the variants.
    """
    variants = dict.fromkeys(item.variant for item in items)
    # An earlier variant may be the reference; if no reference was named, there may be none.
    there = arguments.reference in variants or (arguments.out / arguments.reference).is_dir()
    if arguments.reference != REFERENCE and not there:
        raise UserError(f"--reference {arguments.reference}: there are {', '.join(variants)}")
    refuse_folder("--out", arguments.out)
    refuse_undecodable("--out", arguments.out)
    for name in (RESULT, PAGE):
        if (arguments.out / name).is_dir():
            raise UserError(f"--out {arguments.out}: {name} in it is a folder; choose another")


def report(arguments: Arguments) -> None:
    """Read every run, write the results, and print the table and the conclusion."""
    runs = read_runs(arguments.out)
    findings = conclude(runs, arguments.rules, arguments.reference)
    write_json(arguments.out / RESULT, tables.as_json(runs, findings, arguments.rules))
    write_text(arguments.out / PAGE, page.build(runs, findings))
    console = table_console(PLAIN_WIDTH)
    console.print(tables.terminal(runs, findings))
    console.print(f"curves: {arguments.out / PAGE}", markup=False)


def main() -> int:
    """Train the missing runs, then report.

    Returns:
        128 + signal if one ended the training; 2 if a run failed for another reason than divergence; otherwise 0.
    """
    arguments = parse(sys.argv[1:])
    if arguments.report:
        report(arguments)
        return 0
    items = plan(chosen(arguments), arguments.seeds, arguments.config, arguments.out)
    prepare_programs()
    prepare_devices(arguments.devices, items[0].config.batch)
    cache_programs()
    find_devices()
    refuse(arguments, items)
    with Display() as display:

        def open_corpus(config: Config) -> Corpus:
            corpus = find_corpus(TrainArguments(arguments.out, data=arguments.data, config=config), display)
            display.note(corpus.describe())
            return corpus

        start = read_start(arguments.start) if arguments.start else None
        source = {"data": arguments.data, "speech": [], "noise": [], "skip_bad": False}
        source["start"] = str(arguments.start) if start else None
        ended = schedule.train_all(
            items, open_corpus, display, arguments.devices, source, start, arguments.retry_diverged
        )
    for folder, failure in ended.failed.items():
        print(f"{folder} {'diverged' if failure.diverged else 'failed'}: {failure.reason}", file=sys.stderr)
    if interrupted := ended.interrupted:
        print(f"stopped by {interrupted.name}; the same command goes on")
        return 128 + interrupted
    report(arguments)
    # Divergence is a result; other failures can be fixed, after which the same command continues the run.
    return USER_ERROR if any(not failure.diverged for failure in ended.failed.values()) else 0
