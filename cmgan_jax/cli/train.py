"""Train a CMGAN: `cmgan train --data DIR|demo --recipe NAME --preset NAME --out runs/NAME`.

With `--distributed` it is started once per host, and all hosts train one model.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from cmgan_jax.cli._hosts import Cluster, joined
from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.data.corpus import Corpus, CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.prepare.demo import prepare_demo
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.protocol import PESQ
from cmgan_jax.metrics.registry import check_metric
from cmgan_jax.models import backends, kernels
from cmgan_jax.recipes import PRESETS, RECIPES, from_dict, make_config, to_dict
from cmgan_jax.runs.folder import KEEP, find, is_run, read_about, steps_in
from cmgan_jax.runs.records import METRICS
from cmgan_jax.runtime import cache_programs, find_devices, prepare_devices, prepare_programs
from cmgan_jax.system.outputs import refuse_folder, refuse_undecodable
from cmgan_jax.training.display import Display
from cmgan_jax.training.hosts import Hosts
from cmgan_jax.training.identity import start_difference
from cmgan_jax.training.launch import (
    RunOptions,
    launch,
    refuse_differences,
    refuse_occupied,
)
from cmgan_jax.training.loop import Outcome
from cmgan_jax.training.parallel import choose_devices
from cmgan_jax.training.score_targets import injection_shares
from cmgan_jax.training.start import SAME, Start, read_start, refuse_misfit

DEMO = "demo"
DEMO_FOLDER = Path("data/demo")


@dataclass(frozen=True)
class Arguments:
    """Train a generator and its metric discriminator, validate each epoch, and keep the best by the target metric."""

    out: Path
    """Folder of the run: metrics.jsonl, run.json, tensorboard, and the latest and best checkpoints."""
    data: str = ""
    """Folder with train/{clean,noisy} (and test/{clean,noisy}) or with speech/ and noise/; `demo` makes a corpus."""
    speech: tuple[Path, ...] = ()
    """Folders of clean speech, to be mixed with --noise on the fly; instead of --data."""
    noise: tuple[Path, ...] = ()
    """Folders of noise."""
    skip_bad: bool = False
    """Leave out files that the check refuses, and continue."""
    start: Path | None = None
    """Fine-tune: start from these weights instead of random ones. A run folder (its best checkpoint), one checkpoint,
    or a file of weights (PyTorch or safetensors); of a checkpoint, the generator used for validation (the moving
    average, if it has one). Optimisers, learning rates and steps start anew."""
    start_discriminator: bool = False
    """Also take the discriminator from --start; without it, a fresh one is trained."""
    devices: int = 0
    """Devices of this host that share a step; 0: as many as divide the batch. On a CPU, its cores can serve as
    devices."""
    resume: bool = False
    """Continue the run in --out."""
    overwrite: bool = False
    """Delete the run in --out first."""
    distributed: bool = False
    """Train on several hosts: start this once on each, with one --out on a file system that all share."""
    coordinator: str | None = None
    """HOST:PORT of process 0; SLURM, Open MPI and Kubernetes need neither this nor the next two."""
    process_id: int | None = None
    """Index of this process, from 0."""
    num_processes: int | None = None
    """Number of processes."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


def parse(words: list[str]) -> Arguments:
    """Parse the command line; a recipe and a preset, or the run to be resumed, set all other defaults."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--out", type=Path)
    first.add_argument("--resume", action="store_true")
    first.add_argument("--data")
    first.add_argument("--speech", nargs="*")
    first.add_argument("--noise", nargs="*")
    known, _ = first.parse_known_args(words)
    defaults: dict[str, Any] = {}
    if known.resume and known.out and is_run(known.out):
        about = read_about(known.out)
        base, defaults = from_dict(about["config"]), source_arguments(about["source"])
        # The corpus may have moved since, into one folder or several: a path on the command line replaces the recorded
        # one.
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
        prog="cmgan train",
        default=Arguments(out=tyro.MISSING, config=base, **defaults),
        description=f"{Arguments.__doc__}\n\nRecipes: {', '.join(RECIPES)}. Presets: {', '.join(PRESETS)}.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def source_arguments(source: dict[str, Any] | None) -> dict[str, Any]:
    """Return the flags for the corpus of a recorded run; None if it has no recorded place."""
    source = source or {"data": "", "speech": [], "noise": [], "skip_bad": False}
    return {
        "data": source["data"],
        "speech": tuple(map(Path, source["speech"])),
        "noise": tuple(map(Path, source["noise"])),
        "skip_bad": source["skip_bad"],
    }


def find_cluster(arguments: Arguments) -> Cluster | None:
    """Return how the hosts find each other; None if there is only one.

    Raises:
        UserError: there are flags of a distributed run without `--distributed`.
    """
    cluster = Cluster(arguments.coordinator, arguments.process_id, arguments.num_processes)
    if not arguments.distributed and cluster != Cluster():
        raise UserError("--coordinator, --process-id and --num-processes go with --distributed")
    return cluster if arguments.distributed else None


def find_corpus(arguments: Arguments, display: Display) -> Corpus:
    """Open and check the corpus that the arguments name; a missing demo corpus is made first."""
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


def find_start(arguments: Arguments) -> Start | None:
    """Load the run's initial weights before anything else; None for random weights, or to resume a checkpoint.

    A resumed run needs no `--start`: it continues from its checkpoint or, if it has none yet, begins again with the
    recorded start.

    Raises:
        UserError: the weights cannot be read, do not fit the run, or lie in a folder that is to be deleted.
    """
    out, path, discriminator = arguments.out, arguments.start, arguments.start_discriminator
    if path is None and arguments.resume:
        recorded = read_about(out).get("start")
        if not recorded or any(steps_in(out / kind) for kind in KEEP):
            return None
        try:
            start = read_start(Path(recorded["origin"]), recorded["discriminator"] == SAME)
        except UserError as error:
            raise UserError(
                f"{out} has no checkpoint yet and begins again with what it began with: {error}\n"
                "If that lies elsewhere now, name it with --start; or begin anew with --overwrite"
            ) from error
    elif path is not None:
        start = read_start(path, discriminator)
    elif discriminator:
        raise UserError("--start-discriminator goes with --start: name what to take the discriminator from")
    else:
        return None
    if arguments.resume and (line := start_difference({"start": start.about}, read_about(out))):
        raise UserError(f"--resume: this is not the same run; begin another with its own --out:\n  {line}")
    refuse_misfit(start, arguments.config)
    if arguments.overwrite and Path(start.about["origin"]).is_relative_to(out.resolve()):
        raise UserError(f"--start {path} lies in --out {out}, which --overwrite deletes: choose another --out")
    return start


def closing(outcome: Outcome, folder: Path) -> str:
    """Summarise the run's outcome for the user."""
    if outcome.interrupted:
        return (
            f"stopped by {outcome.interrupted.name} after step {outcome.step}; everything is saved in {folder}\n"
            f"go on:    cmgan train --out {folder} --resume"
        )
    best, noisy, scale = outcome.best, outcome.noisy, outcome.scale
    if best is None or noisy is None or noisy["score"] is None:
        return (
            f"done; no epoch has a {scale.label} of all held-out files, so there is no best model: the last is in "
            f"{folder / 'latest'}, and {folder / METRICS} names the files that lack a score"
        )
    measured = {scale.label: (".2f", "score"), PESQ.label: (".2f", "pesq"), "SI-SDR": (".1f", "si_sdr")}
    scores = "   ".join(
        f"{label} {noisy[name]:{form}} -> {best[name]:{form}}" + (" dB" if label == "SI-SDR" else "")
        for label, (form, name) in measured.items()
        if None not in (noisy[name], best[name])
    )
    return (
        f"held-out files, noisy -> enhanced:  {scores}   "
        f"(epoch {best['epoch']}, {best['scored']} of {best['files']} files scored)\n"
        f"best checkpoint:  {find(folder)}\n"
        f"clean a recording:  cmgan enhance --checkpoint {folder} --out enhanced FILE..."
    )


def main() -> int:
    """Parse arguments, check and train; the status is 128 + signal if one ended the run."""
    arguments = parse(sys.argv[1:])
    check(arguments.config)
    prepare_programs()
    prepare_devices(arguments.devices, arguments.config.batch)
    cache_programs()
    with joined(find_cluster(arguments)) as hosts:
        find_devices()
        outcome = train(arguments, hosts)
    if hosts.first:
        print(closing(outcome, arguments.out))
    return 128 + outcome.interrupted if outcome.interrupted else 0


def refuse(arguments: Arguments, options: RunOptions, hosts: Hosts) -> None:
    """Check the set-up before the corpus is read, which may take hours.

    Raises:
        UserError: flags or environment variables do not fit this machine, the hosts, or the run folder.
    """
    config = arguments.config
    choose_devices(arguments.devices, config.batch)
    backends.uses_kernels(config.generator.backend)
    injection_shares(config.targets)
    check_metric(config.targets.metric, config.targets.time_limit)
    if hosts.first:
        refuse_folder("--out", options.folder)
        refuse_undecodable("--out", options.folder)
        refuse_occupied(options)
    if options.resume:
        # Its corpus is compared later, once it has been read.
        about = read_about(options.folder)
        refuse_differences(about | {"config": to_dict(config)}, about)


def train(arguments: Arguments, hosts: Hosts) -> Outcome:
    """Check the set-up, and train; only the first host prints."""
    options = RunOptions(arguments.out, arguments.devices, arguments.resume, arguments.overwrite)
    hosts.agree(lambda: refuse(arguments, options, hosts))
    start = hosts.agree(lambda: find_start(arguments))
    with Display(None if hosts.first else Console(quiet=True)) as display:
        if start and start.assumed:
            display.note(f"{start.about['origin']} does not tell hop and compression; they are taken to be the run's")
        if arguments.data == DEMO:
            # One host makes it; the others find it made.
            hosts.agree(lambda: prepare_demo(DEMO_FOLDER, progress=display.note) if hosts.first else None)
        corpus = hosts.agree(lambda: find_corpus(arguments, display))
        display.note(corpus.describe())
        if lacking := kernels.lacking():
            display.note(lacking)
        return launch(
            arguments.config,
            corpus,
            options,
            display,
            source=dict(
                data=arguments.data,
                speech=[str(p) for p in arguments.speech],
                noise=[str(p) for p in arguments.noise],
                skip_bad=arguments.skip_bad,
            ),
            initial=start,
        )
