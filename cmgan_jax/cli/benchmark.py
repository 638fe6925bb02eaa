"""What a step costs and why: `cmgan benchmark --preset demo --batch 1 2 --json FILE`."""

import contextlib
import itertools
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from rich.console import Console

from cmgan_jax.benchmarking import report
from cmgan_jax.benchmarking.baseline import Baseline, Nobody, Way, find_baseline
from cmgan_jax.benchmarking.ceilings import Ceilings, measure_ceilings
from cmgan_jax.benchmarking.clock import Gone, alternate, in_turns
from cmgan_jax.benchmarking.enhancement import Enhanced, Ours, cut, enhancement_table, make_material
from cmgan_jax.benchmarking.health_cost import health_table, measure_health
from cmgan_jax.benchmarking.material import make_corpus, make_crops
from cmgan_jax.benchmarking.memory import device_peak, peak_rss
from cmgan_jax.benchmarking.pesq_cost import measure_pesq
from cmgan_jax.benchmarking.report import OURS, BenchmarkRow, Setup
from cmgan_jax.benchmarking.schedule import measure_schedule, schedule_table
from cmgan_jax.benchmarking.work import program_work
from cmgan_jax.benchmarking.workload import PROGRAMS, Waits, Workload
from cmgan_jax.cli._sections import Sections, chosen, parse
from cmgan_jax.cli._terminal import table_console
from cmgan_jax.config import Config, Precision
from cmgan_jax.config_check import check
from cmgan_jax.data.pipeline import training_batches
from cmgan_jax.errors import UserError
from cmgan_jax.inference.enhance import WindowConfig, layout
from cmgan_jax.runtime import find_devices, fresh_programs, prepare_programs, share_device
from cmgan_jax.system import temporaries
from cmgan_jax.system.outputs import refuse_file, refuse_folder, write_json

Part = Literal["train", "pesq", "schedule", "enhance"]
WIDTH = 140
"""Columns where the output is no terminal."""
PROFILED = 3
"""Steps in a profile."""


@dataclass(frozen=True)
class Arguments:
    """Time the programs of a training step, alone and together, beside what this device could do at best.

    Medians of samples that are taken in turns, program after program. Programs are compiled afresh.
    """

    part: tuple[Part, ...] = ("train", "pesq")
    """What to measure: `train`, the step's programs; `pesq`, what scoring costs the main thread;
    `schedule`, whether it hides behind a device that only takes time; `enhance`, recordings by window and batch."""
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
    """How PyTorch computes; on a GPU also eager-tf32 and compiled-tf32. Each is a process of its own, and all are in
    memory at once: at the paper's size 10 GB each on a CPU, 20 for recordings in windows of 8 s."""
    json: Path | None = None
    """File for all figures."""
    profile: Path | None = None
    """Folder for a profile of a few whole steps, for Perfetto or TensorBoard."""
    sections: Annotated[Sections | None, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = None
    """Every other number of the config; None: those of the preset and the recipe."""


def sizes(arguments: Arguments) -> list[dict[str, Config]]:
    """For every batch, the config by precision, checked.

    Raises:
        UserError: the configuration cannot work.
    """
    if arguments.repeats < 1:
        raise UserError(f"--repeats {arguments.repeats}: at least 1 sample is needed")
    for name in ("part", "batch", "precision", "window", "window_batch"):
        if not getattr(arguments, name):
            raise UserError(f"--{name.replace('_', '-')}: at least one is needed")
    if min(arguments.files, arguments.minutes) < 0:
        raise UserError("--files and --minutes: they must be 0 or more")
    if min(arguments.window_batch) < 1:
        raise UserError(f"--window-batch {min(arguments.window_batch)}: it must be 1 or more")
    base = chosen(arguments)
    if "enhance" in arguments.part:
        for window in arguments.window:
            layout(WindowConfig(whole=window, window=window), base.spectral)
    wished: list[dict[str, Config]] = [
        {precision: replace(base, batch=batch, precision=precision) for precision in arguments.precision}
        for batch in arguments.batch
    ]
    for configs in wished:
        for config in configs.values():
            check(config)
    return wished


@dataclass(frozen=True)
class BenchmarkResults:
    """What one batch size gave: rows by program, our set-ups, the rivals' (plain), and why some of them are gone."""

    rows: list[BenchmarkRow]
    setups: list[Setup]
    rivals: list[dict[str, Any]]
    gone: list[str]


def measure_size(
    configs: dict[str, Config], ceilings: Ceilings, arguments: Arguments, baseline: Baseline, folder: Path
) -> BenchmarkResults:
    """Time all programs at one batch size, ours and the rivals' in turns.

    Args:
        configs: ours by precision.
        ceilings: of the device.
        arguments: repeats, modes of the rivals, profile.
        baseline: of the rivals.
        folder: empty, for a small corpus.
    """
    config, device = next(iter(configs.values())), jax.devices()[0]
    modes = baseline.modes(arguments.modes)
    with contextlib.ExitStack() as opened:
        batches = training_batches(make_corpus(folder, config), config)
        opened.callback(batches.close)
        ours, setups = {}, []
        for precision, sized in configs.items():
            ours[precision] = opened.enter_context(Workload(sized, [device], batches))
            setups.append(setup_of(precision, ours[precision], device))
        theirs, gone = baseline.open(opened, config, next(batches), modes)
        ours_sampled = {precision: workload.samples() for precision, workload in ours.items()}
        theirs_sampled = {mode: rival.samples(list(PROGRAMS)) for mode, rival in theirs.items()}
        cases = {}
        for program in PROGRAMS:
            cases |= {(program, OURS, precision): samples[program] for precision, samples in ours_sampled.items()}
            cases |= {(program, m.side, m.precision): samples[program] for m, samples in theirs_sampled.items()}
        timings = alternate(cases, arguments.repeats)
        rivals = []
        for mode, rival in theirs.items():
            with contextlib.suppress(Gone):
                how = {"side": mode.side, "precision": mode.precision, "batch": config.batch, **rival.about}
                rivals.append(how | {"first_s": rival.first, "memory": rival.ask("memory")})
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
        for mode, rival in theirs.items()
        for name, milliseconds in rival.pesq_wait_ms.items()
    }
    rows = []
    for (program, side, precision), timing in timings.items():
        waited = waits.get((program, side, precision), Waits())
        rate = ceilings.macs_per_second.get(precision)
        floor = (work[program] * config.batch).floor(precision, rate, ceilings.bytes_per_second) if rate else None
        waiting = report.median(waited.pesq), report.median(waited.data)
        rows.append(BenchmarkRow(side, program, PROGRAMS[program], precision, config.batch, timing, floor, *waiting))
    return BenchmarkResults(rows, setups, rivals, gone + [rival.gone for rival in theirs.values() if rival.gone])


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


def measure_training(
    arguments: Arguments, wished: list[dict[str, Config]], baseline: Baseline, console: Console
) -> dict[str, Any]:
    """Measure and show the step's programs; plain."""
    ceilings = measure_ceilings(jax.devices()[0], arguments.precision)
    work = program_work(next(iter(wished[0].values())))
    console.print(report.ceiling_table(ceilings, work))
    found = []
    for configs in wished:
        with temporaries.folder() as folder:
            found.append(measure_size(configs, ceilings, arguments, baseline, folder))
    rows = [row for program in PROGRAMS for one in found for row in one.rows if row.program == program]
    setups, rivals = [s for one in found for s in one.setups], [r for one in found for r in one.rivals]
    gone = [words for one in found for words in one.gone]
    console.print(report.timing_table(rows, f"training, preset {arguments.preset}"))
    console.print(report.setup_table(setups))
    if rivals:
        console.print(report.rival_table(rivals))
    for words in gone:
        console.print(f"left out: {words}", markup=False)
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
        "gone": gone,
        "hidden": hidden,
    }


def measure_enhancement(
    arguments: Arguments, configs: dict[str, Config], baseline: Baseline, console: Console
) -> dict[str, Any]:
    """Measure and show enhancement, way after way, ours in each precision; plain."""
    config = next(iter(configs.values()))
    modes = baseline.modes(arguments.modes)
    rate, rows = config.spectral.sample_rate, []
    crops = make_crops(config.batch, config.data.crop_seconds, rate)
    with contextlib.ExitStack() as opened:
        rivals_of, gone = baseline.open(opened, config, crops, modes)
        for material in make_material(arguments.minutes, arguments.files, rate):
            for window, batch in itertools.product(arguments.window, arguments.window_batch):
                pieces = cut(material, config, window, batch)
                ways: dict[tuple[str, str], Way] = {
                    (OURS, precision): Ours(ours, material, window, batch) for precision, ours in configs.items()
                }
                ways |= {(mode.side, mode.precision): baseline.way(y, pieces, batch) for mode, y in rivals_of.items()}
                for way in ways.values():
                    with contextlib.suppress(Gone):
                        way.warm_up()
                timings = in_turns({name: way.run for name, way in ways.items()}, arguments.repeats)
                for (side, precision), timing in timings.items():
                    way = ways[side, precision]
                    how = material.name, material.seconds(rate), window, batch, timing
                    temporaries = way.temporaries if isinstance(way, Ours) else None
                    rows.append(Enhanced(side, precision, *how, temporaries, way.rss))
        gone += [rival.gone for rival in rivals_of.values() if rival.gone]
    console.print(enhancement_table(rows, arguments.preset))
    for words in gone:
        console.print(f"left out: {words}", markup=False)
    return {"enhancement": [row.to_dict() for row in rows], "gone_in_enhancement": gone}


def measure(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Measure what is wished, show it, and give it ready for JSON."""
    wished = sizes(arguments)
    baseline = find_baseline() if arguments.against == "torch" else Nobody()
    baseline.modes(arguments.modes)
    refuse_file("--json", arguments.json)
    refuse_folder("--profile", arguments.profile)
    baseline.require(*(["pesq"] if "train" in arguments.part else []))
    settings = {name: value for name, value in asdict(arguments).items() if name not in ("json", "profile")}
    found: dict[str, Any] = {"arguments": settings, "machine": report.machine()}
    console.print(f"{found['machine']['device']}, {found['machine']['cores']} cores, load {found['machine']['load']}")
    if "train" in arguments.part:
        found |= measure_training(arguments, wished, baseline, console)
    if "enhance" in arguments.part:
        found |= measure_enhancement(arguments, wished[0], baseline, console)
    if "pesq" in arguments.part:
        config = next(iter(wished[0].values()))
        cost = measure_pesq(config.data.crop_seconds, config.spectral.sample_rate, arguments.repeats)
        found["pesq"] = asdict(cost)
        console.print(report.pesq_table(cost))
    if "schedule" in arguments.part:
        scheduled = measure_schedule(next(iter(wished[0].values())), arguments.repeats)
        found["schedule"] = [row.to_dict() for row in scheduled]
        console.print(schedule_table(scheduled))
    return found


def main() -> None:
    """Parse, measure, write."""
    arguments = parse(Arguments, "cmgan benchmark")
    prepare_programs()
    if arguments.against != "none":
        share_device()
    find_devices()
    with fresh_programs():
        found = measure(arguments, table_console(WIDTH))
    if arguments.json is not None:
        write_json(arguments.json, found)
