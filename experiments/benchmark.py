"""What a step costs and why: `python -m experiments.benchmark --preset demo --batch 1 2 --json FILE`."""

import contextlib
import itertools
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import tyro
from rich.console import Console

from cmgan_jax.benchmarking import report
from cmgan_jax.benchmarking.ceilings import Ceilings, measure_ceilings
from cmgan_jax.benchmarking.clock import alternate, in_turns
from cmgan_jax.benchmarking.enhancement import Enhanced, Ours, cut, enhancement_table, make_material
from cmgan_jax.benchmarking.health_cost import health_table, measure_health
from cmgan_jax.benchmarking.material import make_corpus, make_crops
from cmgan_jax.benchmarking.memory import device_peak, peak_rss
from cmgan_jax.benchmarking.pesq_cost import measure_pesq
from cmgan_jax.benchmarking.report import OURS, Row, Setup
from cmgan_jax.benchmarking.work import program_work
from cmgan_jax.benchmarking.workload import PROGRAMS, Waits, Workload
from cmgan_jax.config import Config, Precision
from cmgan_jax.config_check import check
from cmgan_jax.data.pipeline import training_batches
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config
from cmgan_jax.training.records import write_json
from experiments._cli import run
from experiments._runtime import fresh_programs, limit_arenas
from experiments.yardstick.client import MODES, Theirs, Yardstick, require_torch

Part = Literal["train", "pesq", "enhance"]
PROFILED = 3
"""Steps in a profile."""


@dataclass(frozen=True)
class Arguments:
    """Time the programs of a training step, alone and together, beside what this device could do at best.

    Medians of samples that are taken in turns, program after program. Programs are compiled afresh.
    """

    part: tuple[Part, ...] = ("train", "pesq")
    """What to measure: `train`, the step's programs; `pesq`, what scoring costs the main thread;
    `enhance`, recordings by window and batch."""
    preset: str = "paper"
    """Size: paper, demo or tiny."""
    recipe: str = "recommended"
    """How to train."""
    batch: tuple[int, ...] = (1, 2, 4)
    """Crops at once; several are measured one after another."""
    precision: tuple[Precision, ...] = ("fp32",)
    """In which the networks compute; several are measured in turns."""
    repeats: int = 5
    """Samples of each figure."""
    window: tuple[float, ...] = (2.0, 4.0, 8.0)
    """Seconds of the windows in which recordings are enhanced."""
    window_batch: tuple[int, ...] = (1, 4)
    """Windows at once."""
    minutes: float = 8.0
    """Length of the long recording."""
    files: int = 100
    """Number of short ones."""
    against: Literal["none", "torch"] = "none"
    """`torch`: the published program beside ours, in turns, where PyTorch is installed (or CMGAN_TORCH_PYTHON names
    an interpreter that has it)."""
    modes: tuple[str, ...] = ("eager-fp32", "compiled-fp32", "eager-bf16", "compiled-bf16")
    """How PyTorch computes; on a GPU also eager-tf32 and compiled-tf32."""
    json: Path | None = None
    """File for all figures."""
    profile: Path | None = None
    """Folder for a profile of a few whole steps, for Perfetto or TensorBoard."""


def sizes(arguments: Arguments) -> list[dict[str, Config]]:
    """For every batch, the config by precision, checked.

    Raises:
        UserError: numbers that cannot work.
    """
    if arguments.repeats < 1:
        raise UserError(f"--repeats {arguments.repeats}: at least 1 sample is needed")
    if unknown := [mode for mode in arguments.modes if mode not in MODES]:
        raise UserError(f"--modes {' '.join(unknown)}: there are {', '.join(MODES)}")
    base = make_config(arguments.recipe, arguments.preset)
    wished: list[dict[str, Config]] = [
        {precision: replace(base, batch=batch, precision=precision) for precision in arguments.precision}
        for batch in arguments.batch
    ]
    for configs in wished:
        for config in configs.values():
            check(config)
    return wished


@dataclass(frozen=True)
class Found:
    """What one batch size gave: rows by program, our set-ups, and the rivals' (plain)."""

    rows: list[Row]
    setups: list[Setup]
    rivals: list[dict[str, Any]]


def measure_size(configs: dict[str, Config], ceilings: Ceilings, arguments: Arguments, folder: Path) -> Found:
    """Time all programs at one batch size, ours and the rivals' in turns.

    Args:
        configs: ours by precision.
        ceilings: of the device.
        arguments: repeats, rivals, profile.
        folder: empty, for a small corpus.
    """
    config, device = next(iter(configs.values())), jax.devices()[0]
    modes = [MODES[name] for name in arguments.modes] if arguments.against == "torch" else []
    with contextlib.ExitStack() as opened:
        batches = training_batches(make_corpus(folder, config), config)
        opened.callback(batches.close)
        ours = {p: opened.enter_context(Workload(c, [device], batches)) for p, c in configs.items()}
        setups = [setup_of(precision, workload, device) for precision, workload in ours.items()]
        theirs = {mode: opened.enter_context(Yardstick(config, next(batches), mode)) for mode in modes}
        ours_sampled = {precision: workload.samples() for precision, workload in ours.items()}
        theirs_sampled = {mode: yardstick.samples(list(PROGRAMS)) for mode, yardstick in theirs.items()}
        cases = {}
        for program in PROGRAMS:
            cases |= {(program, OURS, precision): samples[program] for precision, samples in ours_sampled.items()}
            cases |= {(program, m.side, m.precision): samples[program] for m, samples in theirs_sampled.items()}
        timings = alternate(cases, arguments.repeats)
        rivals = [
            {"side": mode.side, "precision": mode.precision, "batch": config.batch, **y.about, "first_s": y.first}
            | {"memory": y.ask("memory")}
            for mode, y in theirs.items()
        ]
        if arguments.profile is not None:
            # Without Python's own calls, which would cover what matters.
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            with jax.profiler.trace(arguments.profile, create_perfetto_trace=True, profiler_options=options):
                next(iter(ours_sampled.values()))["step"](PROFILED)
    work = {"constant": program_work(config)["step"], **program_work(config)}
    waits = {(name, OURS, precision): w for precision, workload in ours.items() for name, w in workload.waits.items()}
    waits |= {
        (name, mode.side, mode.precision): Waits(pesq=milliseconds)
        for mode, yardstick in theirs.items()
        for name, milliseconds in yardstick.pesq_wait_ms.items()
    }
    rows = []
    for (program, side, precision), timing in timings.items():
        waited = waits.get((program, side, precision), Waits())
        rate = ceilings.macs_per_second.get(precision)
        floor = (work[program] * config.batch).floor(precision, rate, ceilings.bytes_per_second) if rate else None
        waiting = report.median(waited.pesq), report.median(waited.data)
        rows.append(Row(side, program, PROGRAMS[program], precision, config.batch, timing, floor, *waiting))
    return Found(rows, setups, rivals)


def setup_of(precision: str, workload: Workload, device: Any) -> Setup:
    """Compile times and memory of a workload that has just been made."""
    return Setup(
        precision=precision,
        batch=workload.config.batch,
        compile_seconds={name: compiled.seconds for name, compiled in workload.compiled.items()},
        first_step=workload.first_step,
        temporaries={name: compiled.temporaries for name, compiled in workload.compiled.items()},
        step_bytes=workload.step_bytes,
        rss=peak_rss(),
        device_peak=device_peak(device),
    )


def measure_training(arguments: Arguments, wished: list[dict[str, Config]], console: Console) -> dict[str, Any]:
    """Measure and show the step's programs; plain."""
    ceilings = measure_ceilings(jax.devices()[0], arguments.precision)
    work = program_work(next(iter(wished[0].values())))
    console.print(report.ceiling_table(ceilings, work))
    found = []
    for configs in wished:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure_size(configs, ceilings, arguments, Path(folder)))
    rows = [row for program in PROGRAMS for one in found for row in one.rows if row.program == program]
    setups, rivals = [s for one in found for s in one.setups], [r for one in found for r in one.rivals]
    console.print(report.timing_table(rows, f"training, preset {arguments.preset}"))
    console.print(report.setup_table(setups))
    if rivals:
        console.print(report.rival_table(rivals))
    hidden = report.hidden(rows)
    for case in hidden:
        console.print(
            f"{case['side']}, batch {case['batch']}, {case['precision']}: a step with PESQ takes {case['ratio']:.3f} × "
            f"one with a constant (goal: under {report.HIDDEN}, with a free core a crop beside the device)"
        )
    config = next(iter(wished[-1].values()))
    seconds = {r.program: r.timing.median for r in rows if (r.side, r.batch) == (OURS, config.batch)}
    health = measure_health(config, seconds["generator"], seconds["step"], arguments.repeats)
    console.print(health_table(health, config))
    return {
        "health": asdict(health),
        "ceilings": asdict(ceilings),
        "work": {name: asdict(part) for name, part in work.items()},
        "rows": [row.to_dict() for row in rows],
        "setups": [asdict(setup) for setup in setups],
        "rivals": rivals,
        "hidden": hidden,
    }


def measure_enhancement(arguments: Arguments, configs: dict[str, Config], console: Console) -> dict[str, Any]:
    """Measure and show enhancement, way after way, ours in each precision; plain."""
    config = next(iter(configs.values()))
    modes = [MODES[name] for name in arguments.modes] if arguments.against == "torch" else []
    rate, rows = config.spectral.sample_rate, []
    crops = make_crops(config.batch, config.data.crop_seconds, rate)
    with contextlib.ExitStack() as opened:
        yardsticks = {mode: opened.enter_context(Yardstick(config, crops, mode)) for mode in modes}
        for material in make_material(arguments.minutes, arguments.files, rate):
            for window, batch in itertools.product(arguments.window, arguments.window_batch):
                pieces = cut(material, config, window, batch)
                ways: dict[tuple[str, str], Ours | Theirs] = {
                    (OURS, precision): Ours(ours, material, window, batch) for precision, ours in configs.items()
                }
                ways |= {(mode.side, mode.precision): Theirs(y, pieces, batch) for mode, y in yardsticks.items()}
                for way in ways.values():
                    way.warm_up()
                timings = in_turns({name: way.run for name, way in ways.items()}, arguments.repeats)
                for (side, precision), way in ways.items():
                    how = material.name, material.seconds(rate), window, batch, timings[side, precision]
                    temporaries = way.temporaries if isinstance(way, Ours) else None
                    rows.append(Enhanced(side, precision, *how, temporaries, way.rss))
    console.print(enhancement_table(rows, arguments.preset))
    return {"enhancement": [row.to_dict() for row in rows]}


def measure(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Measure what is wished, show it, and give it ready for JSON."""
    wished = sizes(arguments)
    if arguments.against == "torch":
        require_torch()
    settings = {name: value for name, value in asdict(arguments).items() if name not in ("json", "profile")}
    found: dict[str, Any] = {"arguments": settings, "machine": report.machine()}
    console.print(f"{found['machine']['device']}, {found['machine']['cores']} cores, load {found['machine']['load']}")
    if "train" in arguments.part:
        found |= measure_training(arguments, wished, console)
    if "enhance" in arguments.part:
        found |= measure_enhancement(arguments, wished[0], console)
    if "pesq" in arguments.part:
        config = next(iter(wished[0].values()))
        cost = measure_pesq(config.data.crop_seconds, config.spectral.sample_rate, arguments.repeats)
        found["pesq"] = asdict(cost)
        console.print(report.pesq_table(cost))
    return found


def main() -> None:
    """Parse, measure, write."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.benchmark", config=(tyro.conf.FlagCreatePairsOff,))
    limit_arenas()  # As a training has them.
    with fresh_programs():
        found = measure(arguments, Console(highlight=False))
    if arguments.json is not None:
        write_json(arguments.json, found)


if __name__ == "__main__":
    run(main)
