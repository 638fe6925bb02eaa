"""Train a CMGAN: `python -m experiments.train --data DIR|demo --recipe NAME --preset NAME --out runs/NAME`.

With `--distributed` it is started once a host, and all of them train one model.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.data.corpus import Corpus, CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.prepare_demo import prepare_demo
from cmgan_jax.errors import UserError
from cmgan_jax.models import kernels
from cmgan_jax.recipes import PRESETS, RECIPES, from_dict, make_config
from cmgan_jax.runs import ABOUT, find
from cmgan_jax.training.display import Display
from cmgan_jax.training.hosts import Hosts
from cmgan_jax.training.launch import Wishes, launch, read_about, refuse_occupied
from cmgan_jax.training.loop import Outcome
from experiments._cli import run
from experiments._hosts import Cluster, joined
from experiments._runtime import cache_programs, prepare_devices, prepare_programs

DEMO = "demo"
DEMO_FOLDER = Path("data/demo")


@dataclass(frozen=True)
class Arguments:
    """Train a generator and its metric discriminator, validate each epoch, keep the best by PESQ."""

    out: Path
    """Folder of the run: metrics.jsonl, run.json, tensorboard, latest and best checkpoints."""
    data: str = ""
    """Folder with train/{clean,noisy} (and test/{clean,noisy}) or with speech/ and noise/; `demo` makes a corpus."""
    speech: tuple[Path, ...] = ()
    """Folders of clean speech, mixed with --noise on the fly; instead of --data."""
    noise: tuple[Path, ...] = ()
    """Folders of noise."""
    skip_bad: bool = False
    """Go on without the files that the check refuses."""
    devices: int = 0
    """Devices of this host that share a step; 0: all that the batch divides over. On a CPU more are made of its
    cores."""
    resume: bool = False
    """Go on with the run in --out."""
    overwrite: bool = False
    """Delete the run in --out first."""
    distributed: bool = False
    """Train on several hosts: start this once on each, with one --out on a file system that all share."""
    coordinator: str | None = None
    """HOST:PORT of process 0; SLURM, Open MPI and Kubernetes need neither this nor the next two."""
    process_id: int | None = None
    """Number of this process, from 0."""
    num_processes: int | None = None
    """How many processes there are."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


def parse(words: list[str]) -> Arguments:
    """Arguments from the command line; a recipe and a preset, or the run to be resumed, set every other default."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--out", type=Path)
    first.add_argument("--resume", action="store_true")
    first.add_argument("--data")
    first.add_argument("--speech", nargs="*")
    first.add_argument("--noise", nargs="*")
    known, _ = first.parse_known_args(words)
    defaults: dict[str, Any] = {}
    if known.resume and known.out and (known.out / ABOUT).exists():
        about = read_about(known.out)
        base, defaults = from_dict(about["config"]), source_arguments(about["source"])
        # The corpus may lie elsewhere now, in one folder or in several: what is named takes the recorded place.
        if known.data is not None:
            defaults |= {"speech": (), "noise": ()}
        if known.speech or known.noise:
            defaults |= {"data": ""}
    else:
        base = Config()
    first.add_argument("--recipe", default=base.recipe)
    first.add_argument("--preset", default=base.preset)
    known, _ = first.parse_known_args(words)
    if (known.recipe, known.preset) != (base.recipe, base.preset) or not defaults:
        base = make_config(known.recipe, known.preset)
    return tyro.cli(
        Arguments,
        args=words,
        prog="python -m experiments.train",
        default=Arguments(out=tyro.MISSING, config=base, **defaults),
        description=f"{Arguments.__doc__}\n\nRecipes: {', '.join(RECIPES)}. Presets: {', '.join(PRESETS)}.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def source_arguments(source: dict[str, Any] | None) -> dict[str, Any]:
    """The flags that name the corpus of a recorded run; None: it recorded no place."""
    source = source or {"data": "", "speech": [], "noise": [], "skip_bad": False}
    return {
        "data": source["data"],
        "speech": tuple(map(Path, source["speech"])),
        "noise": tuple(map(Path, source["noise"])),
        "skip_bad": source["skip_bad"],
    }


def find_cluster(arguments: Arguments) -> Cluster | None:
    """How the hosts find each other; None: there is one.

    Raises:
        UserError: flags of a distributed run without `--distributed`.
    """
    cluster = Cluster(arguments.coordinator, arguments.process_id, arguments.num_processes)
    if not arguments.distributed and cluster != Cluster():
        raise UserError("--coordinator, --process-id and --num-processes go with --distributed")
    return cluster if arguments.distributed else None


def find_corpus(arguments: Arguments, display: Display) -> Corpus:
    """The corpus that the arguments name, every file checked; the demo's is made first where it is not there."""
    folder = Path(arguments.data) if arguments.data else None
    if arguments.data == DEMO:
        folder = prepare_demo(DEMO_FOLDER, progress=display.note)
    source = CorpusSource(data=folder, speech=arguments.speech, noise=arguments.noise)
    try:
        return open_corpus(source, arguments.config, arguments.skip_bad)
    except UserError as error:
        if not arguments.resume:
            raise
        flags = "--speech DIR… --noise DIR…" if arguments.speech or arguments.noise else "--data DIR"
        where = f"where the run's corpus lies elsewhere now, name it: --resume {flags} (this is {Path.cwd()})"
        raise UserError(f"{error}\n{where}") from error


def closing(outcome: Outcome, folder: Path) -> str:
    """What a person wants to know at the end."""
    if outcome.interrupted:
        return (
            f"stopped by {outcome.interrupted.name} after step {outcome.step}; everything is saved in {folder}\n"
            f"go on:    python -m experiments.train --out {folder} --resume"
        )
    best, noisy = outcome.best, outcome.noisy
    if best is None or noisy is None or noisy["pesq"] is None:
        return f"done; no held-out file could be scored, so there is no best model: the last is in {folder / 'latest'}"
    return (
        f"held-out files, noisy -> enhanced:  PESQ {noisy['pesq']:.2f} -> {best['pesq']:.2f}   "
        f"SI-SDR {noisy['si_sdr']:.1f} -> {best['si_sdr']:.1f} dB   "
        f"(epoch {best['epoch']}, {best['scored']} of {best['files']} files scored)\n"
        f"best checkpoint:  {find(folder)}\n"
        f"clean a recording:  python -m experiments.enhance --checkpoint {folder} --out enhanced FILE..."
    )


def main() -> int:
    """Parse, check, train; the status is 128 + signal where one ended the run."""
    arguments = parse(sys.argv[1:])
    check(arguments.config)
    prepare_programs()
    prepare_devices(arguments.devices, arguments.config.batch)
    cache_programs()
    with joined(find_cluster(arguments)) as hosts:
        outcome = train(arguments, hosts)
    if hosts.first:
        print(closing(outcome, arguments.out))
    return 128 + outcome.interrupted if outcome.interrupted else 0


def train(arguments: Arguments, hosts: Hosts) -> Outcome:
    """Check what is there, and train; the first host speaks."""
    wishes = Wishes(arguments.out, arguments.devices, arguments.resume, arguments.overwrite)
    hosts.agree(lambda: refuse_occupied(wishes) if hosts.first else None)
    with Display(None if hosts.first else Console(quiet=True)) as display:
        if arguments.data == DEMO:
            # By one host; the others find it made.
            hosts.agree(lambda: prepare_demo(DEMO_FOLDER, progress=display.note) if hosts.first else None)
        corpus = hosts.agree(lambda: find_corpus(arguments, display))
        display.note(corpus.describe())
        if lacking := kernels.lacking():
            display.note(lacking)
        return launch(
            arguments.config,
            corpus,
            wishes,
            display,
            source=dict(
                data=arguments.data,
                speech=[str(p) for p in arguments.speech],
                noise=[str(p) for p in arguments.noise],
                skip_bad=arguments.skip_bad,
            ),
        )


if __name__ == "__main__":
    run(main)
