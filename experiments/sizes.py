r"""Which size a small model should have: candidates are measured, then trained for the same processor time.

    python -m experiments.sizes measure --out results/small/sizes.json
    python -m experiments.sizes train --sizes results/small/sizes.json --seconds 1200 --out runs/sizes \
        --speech DIR --noise DIR
    python -m experiments.sizes report --sizes results/small/sizes.json --runs runs/sizes --out results/small/sizes.md

Costs are processor seconds, so that other work on the machine does not decide; `measure` needs a quiet machine for the
real-time factors alone.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from cmgan_jax.benchmarking.material import make_crops
from cmgan_jax.benchmarking.work import generator_work, total
from cmgan_jax.cli._cli import run
from cmgan_jax.cli.train import Arguments as TrainArguments
from cmgan_jax.cli.train import find_corpus
from cmgan_jax.comparison import schedule
from cmgan_jax.comparison.outcome import FinishedRun, read_runs
from cmgan_jax.comparison.study import PlannedRun, Variant, plan
from cmgan_jax.config import Config
from cmgan_jax.data.corpus import Corpus
from cmgan_jax.errors import UserError
from cmgan_jax.inference.enhance import enhance
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runtime import cache_programs, find_devices, prepare_devices, prepare_programs
from cmgan_jax.spectral import frame_count
from cmgan_jax.system.outputs import refuse_file, write_json, write_text
from cmgan_jax.training.display import Display
from cmgan_jax.training.parallel import Placement, choose_devices
from cmgan_jax.training.state import TrainState, initialise
from cmgan_jax.training.steps import compile_steps

SPAN = 10.0
"""Seconds of audio whose enhancement is timed."""
REPEATS = 5
"""Steps and enhancements that are timed; the median counts."""
EPOCHS = 3
"""Validations of a candidate's training, evenly spread."""

_33_BINS: dict[str, Any] = {"generator.early_strides": (2, 2), "generator.output_channels": 0}
CANDIDATES = (
    Variant("small"),
    Variant("33-bins", values=_33_BINS),
    Variant("33-bins-narrow", values=_33_BINS | {"generator.channels": 24}),
    Variant("halved-each-time", values={"generator.early_strides": (2, 2, 2)}),
    Variant("early-17-bins", values={"generator.early_strides": (4,), "generator.late_strides": (4,)}),
    Variant("three-blocks", values={"generator.channels": 24, "generator.blocks": 3}),
    Variant("one-block", values={"generator.channels": 42, "generator.blocks": 1, "generator.output_channels": 24}),
    Variant("wide", values={"generator.channels": 36}),
    Variant("narrow-output", values={"generator.output_channels": 8}),
)
"""Changes to preset `small`."""


@dataclass(frozen=True)
class Cost:
    """What a candidate costs.

    Attributes:
        parameters: of the generator.
        gmacs: 1e9 multiply-adds for one second of audio.
        enhance: processor seconds for one second of audio.
        real_time_factor: seconds for one second of audio, on all cores that the process may use.
        step: processor seconds of a training step, without PESQ.
        audio: seconds of audio that a step trains on.
    """

    parameters: int
    gmacs: float
    enhance: float
    real_time_factor: float
    step: float
    audio: float


@dataclass(frozen=True)
class Measure:
    """Measure every candidate."""

    out: Path
    """JSON file of the costs."""


@dataclass(frozen=True)
class Train:
    """Train every candidate for the same processor time."""

    sizes: Path
    """The costs, from `measure`."""
    seconds: float
    """Processor seconds of each training."""
    out: Path
    """Folder of the runs."""
    speech: tuple[Path, ...]
    """Folders of clean speech."""
    noise: tuple[Path, ...]
    """Folders of noise."""
    seeds: tuple[int, ...] = (0,)
    """Each candidate is trained with each of them."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=lambda: make_config(preset="small"))
    """What all candidates share."""


@dataclass(frozen=True)
class Report:
    """Make the table."""

    sizes: Path
    """The costs, from `measure`."""
    runs: Path
    """The folder of the runs, from `train`."""
    out: Path
    """Markdown file of the table."""


def config_of(candidate: Variant, base: Config) -> Config:
    """The config of a candidate."""
    return override(base, candidate.values)


def measure(config: Config) -> Cost:
    """Compile a candidate and take its costs."""
    placement = Placement(choose_devices(1, config.batch))
    state = placement.replicate(initialise(config))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.generator.params))
    rate = config.spectral.sample_rate
    work = total(generator_work(config.generator, frame_count(rate, config.spectral), config.spectral.bins))
    noisy = make_crops(1, SPAN, rate)["noisy"][0]
    variables = jax.tree.map(np.asarray, state.validated)
    processor, wall = _median(lambda: enhance(variables, noisy, config))
    step, _ = _median(_stepping(config, placement, state))
    return Cost(
        parameters, work.macs / 1e9, processor / SPAN, wall / SPAN, step, config.batch * config.data.crop_seconds
    )


def _stepping(config: Config, placement: Placement, state: TrainState) -> Callable[[], Any]:
    """A whole training step without PESQ, again and again."""
    steps = compile_steps(config, placement)
    batch = placement.split(make_crops(config.batch, config.data.crop_seconds, config.spectral.sample_rate))
    rate = placement.replicate(jnp.float32(1e-4))
    half = placement.split(np.full(config.batch, 0.5, np.float32))
    networks = [state]

    def step() -> Any:
        now = networks.pop()
        forward = steps.forward(now.generator, batch)
        magnitudes = forward.clean_magnitude, forward.estimate_magnitude
        generator, average, stats, _ = steps.backward(now.generator, now.average, now.discriminator, forward, rate)
        discriminator = replace(now.discriminator, batch_stats=stats)
        discriminator, _ = steps.update(
            discriminator, *magnitudes, half, half, placement.replicate(np.asarray(True)), rate
        )
        networks.append(replace(now, generator=generator, average=average, discriminator=discriminator))
        return jax.block_until_ready(discriminator.params)

    return step


def _median(work: Callable[[], Any]) -> tuple[float, float]:
    """Median processor seconds and seconds of some calls, after one that compiles."""
    work()
    found = []
    for _ in range(REPEATS):
        processor, clock = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - processor, time.perf_counter() - clock))
    processor, wall = np.median(found, axis=0)
    return float(processor), float(wall)


def read_costs(path: Path) -> dict[str, Cost]:
    """Costs by candidate.

    Raises:
        UserError: the file is not one of `measure`.
    """
    try:
        return {name: Cost(**cost) for name, cost in json.loads(path.read_text())["costs"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no costs ({error}); make it with `experiments.sizes measure --out`") from error


def runs_of(arguments: Train, costs: dict[str, Cost]) -> list[PlannedRun]:
    """Every training: as many steps as the processor time allows.

    Raises:
        UserError: too little time for a step of each epoch, or a candidate that was not measured.
    """
    lacking = [candidate.name for candidate in CANDIDATES if candidate.name not in costs]
    if lacking:
        raise UserError(f"{arguments.sizes} lacks {', '.join(lacking)}: measure again")
    steps = {name: int(arguments.seconds / cost.step / EPOCHS) for name, cost in costs.items()}
    if min(steps.values()) < 1:
        raise UserError(f"--seconds {arguments.seconds} is too little for {EPOCHS} steps of every candidate")
    variants = [
        replace(candidate, values=candidate.values | {"epochs": EPOCHS, "steps_per_epoch": steps[candidate.name]})
        for candidate in CANDIDATES
    ]
    return plan(variants, arguments.seeds, arguments.config, arguments.out)


def train(arguments: Train) -> int:
    """Train what is not trained yet; the status is 128 + signal where one ended it."""
    items = runs_of(arguments, read_costs(arguments.sizes))
    with Display() as display:

        def open_corpus(config: Config) -> Corpus:
            source = TrainArguments(arguments.out, speech=arguments.speech, noise=arguments.noise, config=config)
            return find_corpus(source, display)

        source = {
            "data": "",
            "speech": [str(path) for path in arguments.speech],
            "noise": [str(path) for path in arguments.noise],
            "skip_bad": False,
        }
        ended = schedule.train_all(items, open_corpus, display, 1, source)
    for folder, failure in ended.failed.items():
        print(f"{folder}: {failure.reason}", file=sys.stderr)
    return 128 + ended.interrupted if ended.interrupted else int(bool(ended.failed))


def table(costs: dict[str, Cost], runs: list[FinishedRun]) -> str:
    """The candidates with their costs and, where they were trained, the last validation, in Markdown."""
    lines = [
        "| candidate | parameters | GMAC a second | real-time factor | processor s a step | audio s a processor s "
        "| PESQ | SI-SDR, dB | validation loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        last = [run.epochs[-1].get("validation", {}) for run in runs if run.variant == name and run.epochs]
        scores = [
            _mean([each.get(key) for each in last], digits) for key, digits in (("pesq", 3), ("si_sdr", 1), ("loss", 4))
        ]
        cells = [
            name,
            f"{cost.parameters:,}",
            f"{cost.gmacs:.2f}",
            f"{cost.real_time_factor:.3f}",
            f"{cost.step:.2f}",
            f"{cost.audio / cost.step:.1f}",
            *scores,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _mean(values: list[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.{digits}f}" if known else "–"


def main() -> int:
    """Measure, train or report, as the first word says."""
    prepare_programs()
    cache_programs()
    arguments = tyro.cli(
        Annotated[Measure, tyro.conf.subcommand("measure")]  # type: ignore[operator]
        | Annotated[Train, tyro.conf.subcommand("train")]
        | Annotated[Report, tyro.conf.subcommand("report")],
        prog="python -m experiments.sizes",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    if isinstance(arguments, Report):
        refuse_file("--out", arguments.out)
        write_text(arguments.out, table(read_costs(arguments.sizes), read_runs(arguments.runs)))
        return 0
    prepare_devices(1, make_config(preset="small").batch)
    find_devices()
    if isinstance(arguments, Train):
        return train(arguments)
    refuse_file("--out", arguments.out)
    costs = {}
    for candidate in CANDIDATES:
        costs[candidate.name] = measure(config_of(candidate, make_config(preset="small")))
        print(candidate.name, asdict(costs[candidate.name]), flush=True)
    machine = {"cores": len(os.sched_getaffinity(0)), "jax": jax.__version__}
    write_json(arguments.out, {"machine": machine, "costs": {name: asdict(cost) for name, cost in costs.items()}})
    return 0


if __name__ == "__main__":
    run(main)
