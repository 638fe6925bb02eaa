"""What a step costs and why: `python -m experiments.benchmark --preset demo --batch 1 2 --json FILE`."""

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import tyro
from rich.console import Console

from cmgan_jax.benchmarking import report
from cmgan_jax.benchmarking.ceilings import Ceilings, measure_ceilings
from cmgan_jax.benchmarking.clock import alternate
from cmgan_jax.benchmarking.material import make_corpus
from cmgan_jax.benchmarking.memory import device_peak, peak_rss
from cmgan_jax.benchmarking.pesq_cost import measure_pesq
from cmgan_jax.benchmarking.report import OURS, Row, Setup
from cmgan_jax.benchmarking.work import program_work
from cmgan_jax.benchmarking.workload import PROGRAMS, Workload, check_precisions
from cmgan_jax.config import Config, check
from cmgan_jax.data.pipeline import training_batches
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config
from cmgan_jax.training.records import write_json
from experiments._cli import run

Part = Literal["train", "pesq"]
PROFILED = 3
"""Steps in a profile."""


@dataclass(frozen=True)
class Arguments:
    """Time the programs of a training step, alone and together, beside what this device could do at best.

    Medians of samples that are taken in turns, program after program. Programs are compiled afresh.
    """

    part: tuple[Part, ...] = ("train", "pesq")
    """What to measure: `train`, the step's programs; `pesq`, what scoring costs the main thread."""
    preset: str = "paper"
    """Size: paper, demo or tiny."""
    recipe: str = "recommended"
    """How to train."""
    batch: tuple[int, ...] = (1, 2, 4)
    """Crops at once; several are measured one after another."""
    precision: tuple[str, ...] = ("float32",)
    """In which the step computes."""
    repeats: int = 5
    """Samples of each figure."""
    json: Path | None = None
    """File for all figures."""
    profile: Path | None = None
    """Folder for a profile of a few whole steps, for Perfetto or TensorBoard."""


def configs(arguments: Arguments) -> list[tuple[str, Config]]:
    """Precision and config of every size to be measured, checked.

    Raises:
        UserError: numbers that cannot work.
    """
    if arguments.repeats < 1:
        raise UserError(f"--repeats {arguments.repeats}: at least 1 sample is needed")
    check_precisions(arguments.precision)
    base = make_config(arguments.recipe, arguments.preset)
    sized = [(precision, replace(base, batch=batch)) for batch in arguments.batch for precision in arguments.precision]
    for _, config in sized:
        check(config)
    return sized


def measure_training(
    precision: str, config: Config, ceilings: Ceilings, repeats: int, folder: Path, profile: Path | None
) -> tuple[list[Row], Setup]:
    """Time the programs at one size.

    Args:
        precision: of the floor.
        config: sizes and batch.
        ceilings: of the device.
        repeats: samples of each program.
        folder: of a corpus that `make_corpus` is to write.
        profile: folder of a profile, or None.
    """
    batches = training_batches(make_corpus(folder, config), config)
    device = jax.devices()[0]
    try:
        with Workload(config, device, batches) as workload:
            timings = alternate(workload.samples(), repeats)
            if profile is not None:
                # Without Python's own calls, which would cover what matters.
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0
                with jax.profiler.trace(profile, create_perfetto_trace=True, profiler_options=options):
                    workload.samples()["step"](PROFILED)
    finally:
        batches.close()
    work = {"constant": program_work(config)["step"], **program_work(config)}
    rate = ceilings.macs_per_second[precision], ceilings.bytes_per_second
    rows = []
    for name, timing in timings.items():
        waits = workload.waits.get(name)
        rows.append(
            Row(
                side=OURS,
                program=name,
                title=PROGRAMS[name],
                precision=precision,
                batch=config.batch,
                timing=timing,
                floor=(work[name] * config.batch).floor(precision, *rate),
                pesq_wait_ms=report.median(waits.pesq) if waits else None,
                data_wait_ms=report.median(waits.data) if waits else None,
            )
        )
    setup = Setup(
        precision=precision,
        batch=config.batch,
        compile_seconds={name: compiled.seconds for name, compiled in workload.compiled.items()},
        first_step=workload.first_step,
        temporaries={name: compiled.temporaries for name, compiled in workload.compiled.items()},
        step_bytes=workload.step_bytes,
        rss=peak_rss(),
        device_peak=device_peak(device),
    )
    return rows, setup


def measure(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Measure what is wished, show it, and give it ready for JSON."""
    sized = configs(arguments)
    settings = {name: value for name, value in asdict(arguments).items() if name not in ("json", "profile")}
    found: dict[str, Any] = {"arguments": settings, "machine": report.machine()}
    console.print(f"{found['machine']['device']}, {found['machine']['cores']} cores, load {found['machine']['load']}")
    if "train" in arguments.part:
        ceilings = measure_ceilings(jax.devices()[0], arguments.precision)
        work = program_work(sized[0][1])
        found |= {"ceilings": asdict(ceilings), "work": {name: asdict(part) for name, part in work.items()}}
        console.print(report.ceiling_table(ceilings, work))
        rows: list[Row] = []
        setups: list[Setup] = []
        for precision, config in sized:
            with tempfile.TemporaryDirectory() as folder:
                arguments_of_one = precision, config, ceilings, arguments.repeats, Path(folder), arguments.profile
                of_one, setup = measure_training(*arguments_of_one)
            rows += of_one
            setups.append(setup)
        rows.sort(key=lambda row: list(PROGRAMS).index(row.program))
        console.print(report.timing_table(rows, f"training, preset {arguments.preset}"))
        console.print(report.setup_table(setups))
        hidden = report.hidden(rows)
        for case in hidden:
            console.print(
                f"batch {case['batch']}, {case['precision']}: a step with PESQ takes {case['ratio']:.3f} × one with a "
                f"constant (goal: under {report.HIDDEN}, with a free core a crop beside the device)"
            )
        found |= {"rows": [row.to_dict() for row in rows], "setups": [asdict(s) for s in setups], "hidden": hidden}
    if "pesq" in arguments.part:
        config = sized[0][1]
        cost = measure_pesq(config.data.crop_seconds, config.spectral.sample_rate, arguments.repeats)
        found["pesq"] = asdict(cost)
        console.print(report.pesq_table(cost))
    return found


def main() -> None:
    """Parse, measure, write."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.benchmark", config=(tyro.conf.FlagCreatePairsOff,))
    with tempfile.TemporaryDirectory() as programs:
        # Empty, so that compiling is timed; a cache all the same, so that a second start can be timed too.
        jax.config.update("jax_compilation_cache_dir", programs)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        found = measure(arguments, Console(highlight=False))
    if arguments.json is not None:
        write_json(arguments.json, found)


if __name__ == "__main__":
    run(main)
