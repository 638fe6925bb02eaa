"""Measure how training scales with devices: `cmgan scaling --preset demo --devices 1 2 --page scaling.html`."""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console

from cmgan_jax.benchmarking import report, scaling
from cmgan_jax.benchmarking.gpu_records import RECORDS, newest_steps
from cmgan_jax.benchmarking.pesq_cost import PesqCost, measure_pesq
from cmgan_jax.benchmarking.prediction import Assumptions, OneDevice, predict
from cmgan_jax.benchmarking.scaling import HEAD, PREDICTED_HEAD, VIRTUAL, Point, measure_points, plan, rich_table
from cmgan_jax.cli._sections import Sections, chosen, parse
from cmgan_jax.cli._terminal import table_console
from cmgan_jax.config import Config, Precision
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import from_dict, make_config, to_dict
from cmgan_jax.runtime import find_devices, fresh_programs, prepare_devices, prepare_programs
from cmgan_jax.system.outputs import refuse_file, refuse_same, write_json, write_text
from cmgan_jax.training.state import random_state

WIDTH = 140
"""Columns if the output is not a terminal."""
KNOWN = OneDevice(
    batch=4,
    step=0.0436,
    pesq=0.025,
    reduced=8_078_796,
    exchanges=38,
    source=(
        "no accelerator was measured here; one H100 as results/h100.md has it, the paper's size, batch 4, bf16: "
        "43.6 ms a step, 25 ms a score"
    ),
)
"""The device that predictions use if none is measured and no record of a check on a GPU exists."""
NO_FIGURES = "not figures of cmgan benchmark with --part train pesq"
"""What is said of a file that holds none."""


@dataclass(frozen=True)
class Arguments:
    """Measure weak scaling (constant batch per device) and strong scaling (constant batch), and predict more devices.

    On a CPU, its cores serve as devices, which tests the program but not its speed.
    """

    devices: tuple[int, ...] = (1, 2, 4)
    """Numbers of devices."""
    preset: str = "paper"
    """Size: paper, demo or tiny."""
    recipe: str = "recommended"
    """Training recipe."""
    precision: Precision = "fp32"
    """Precision of the networks."""
    per_device: int = 4
    """Crops per device, for weak scaling."""
    batch: int = 0
    """Crops of all devices together, for strong scaling; 0: those of the largest weak-scaling point."""
    repeats: int = 5
    """Number of samples of each figure."""
    predict: tuple[int, ...] = (4, 8, 64)
    """Numbers of devices to predict."""
    figures: Path | None = None
    """JSON of `cmgan benchmark` on one accelerator, to predict from instead of this run."""
    json: Path | None = None
    """JSON file for all figures."""
    page: Path | None = None
    """HTML file with curves."""
    assume: Assumptions = field(default_factory=Assumptions)
    """Assumptions about the machines of the prediction."""
    sections: Annotated[Sections | None, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = None
    """All other numbers of the config; None: those of the preset and the recipe."""


def checked(arguments: Arguments) -> tuple[Config, int]:
    """Build and check the config; return it and the global batch of strong scaling.

    Raises:
        UserError: the configuration is invalid.
    """
    counts = (*arguments.devices, *arguments.predict, arguments.per_device, arguments.repeats)
    if not arguments.devices or min(counts) < 1 or arguments.batch < 0:
        raise UserError("--devices, --predict, --per-device and --repeats: all must be at least 1, --batch at least 0")
    batch = arguments.batch or arguments.per_device * max(arguments.devices)
    uneven = [n for n in arguments.devices if batch % n]
    if uneven:
        raise UserError(f"--batch {batch} does not split evenly over {uneven} devices")
    config = replace(chosen(arguments), batch=batch, precision=arguments.precision)
    check(config)
    assumed = asdict(arguments.assume)
    if wrong := [name for name, value in assumed.items() if not 0 <= value < math.inf]:
        raise UserError(f"--assume.{wrong[0].replace('_', '-')} {assumed[wrong[0]]}: it must be a number from 0 on")
    for name in ("devices_per_host", "cores_per_host", "link", "network"):
        if not assumed[name]:
            raise UserError(f"--assume.{name.replace('_', '-')} 0: it must be more than 0")
    return config, batch


def from_figures(path: Path) -> OneDevice:
    """Read one device from the output of `cmgan benchmark`: the batch and precision with the highest throughput.

    Raises:
        UserError: the file does not exist, has other content, or is from a CPU.
    """
    try:
        return one_of(json.loads(path.read_text()), path.name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: {NO_FIGURES} ({error})") from error


def one_of(found: Any, name: str) -> OneDevice:
    """One device out of the figures that a file of this name holds.

    Raises:
        UserError: they are no such figures, or those of a CPU.
    """
    try:
        settings = found["arguments"]
        config = from_dict(
            to_dict(make_config(settings["recipe"], settings["preset"])) | (settings.get("sections") or {})
        )
        on_cpu = found["machine"]["platform"] == "cpu"
        ours = [row for row in found["rows"] if row["side"] == report.OURS]
        best = max((row for row in ours if row["program"] == "constant"), key=lambda row: row["crops_per_second"])
        pesq = found["pesq"]["one_ms"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{NO_FIGURES} ({error})") from error
    if on_cpu:
        raise UserError("figures of a CPU, whose time says nothing of an accelerator's; name those of one")
    source = f"{found['machine']['device']}, batch {best['batch']}, {best['precision']}: {name}"
    step = 1e-3 * best["milliseconds"]
    reduced, exchanges = exchanged(config)
    return OneDevice(best["batch"], step, 1e-3 * pesq, reduced, exchanges, source)


def recorded(folder: Path = RECORDS) -> OneDevice:
    """One device as the newest record of a check on a GPU has it; where there is none, the one that is known.

    Args:
        folder: of the records, `results/gpu`.
    """
    newest = newest_steps(folder)
    if newest is None:
        return KNOWN
    path, cases = newest
    name = "/".join(("results", *path.parts[-3:]))
    best = max((one_of(case, name) for case in cases), key=lambda one: one.batch / one.step)
    return replace(best, source=f"no accelerator was measured here; the newest record of one, {best.source}")


def exchanged(config: Config) -> tuple[int, int]:
    """Estimate the all-reduced bytes and number of all-reduces per step, if no multi-device program is available."""
    state = jax.eval_shape(lambda: random_state(config))
    parameters = sum(leaf.size for leaf in jax.tree.leaves((state.generator.params, state.discriminator.params)))
    # Counted in programs with 1 and 4 blocks: each block has two batch norms, whose mean and variance devices exchange
    # in the forward and backward pass if they share them.
    shared = 8 * config.generator.blocks if config.optimiser.cross_device_batchnorm else 0
    return 4 * parameters, shared + 6


def base_of(arguments: Arguments, config: Config, points: list[Point], cost: PesqCost) -> OneDevice:
    """Choose what predictions start from: given figures, an accelerator measured here, or the newest record."""
    if arguments.figures is not None:
        return from_figures(arguments.figures)
    alone = [point for point in points if point.devices == 1]
    if not alone or jax.default_backend() == "cpu":
        return KNOWN
    several = max((point for point in points if point.devices > 1), key=lambda p: p.devices, default=None)
    measured = scaling.one_device(max(alone, key=lambda p: p.batch), 1e-3 * cost.one_ms, several)
    if several is None:
        reduced, exchanges = exchanged(config)
        return replace(measured, reduced=reduced, exchanges=exchanges)
    return measured


def measure(arguments: Arguments, console: Console) -> dict[str, Any]:
    """Measure, show and write the results; return the JSON content."""
    config, batch = checked(arguments)
    if arguments.figures is not None:
        from_figures(arguments.figures)  # Checked before the work, not after it.
    present = jax.local_device_count()
    if max(arguments.devices) > present:
        raise UserError(f"--devices {max(arguments.devices)}: this machine has {present} ({jax.default_backend()})")
    machine = report.machine()
    virtual = machine["platform"] == "cpu" and max(arguments.devices) > 1
    notes = [VIRTUAL] if virtual else []
    subtitle = f"{machine['device']}, {machine['cores']} cores, preset {arguments.preset}"
    for line in (subtitle, *notes):
        console.print(line)
    cost = measure_pesq(config.data.crop_seconds, config.spectral.sample_rate, arguments.repeats)
    points = measure_points(config, plan(arguments.devices, arguments.per_device, batch), arguments.repeats)
    rows = scaling.point_rows(points, arguments.per_device, batch, 1e-3 * cost.one_ms)
    console.print(rich_table("measured", HEAD, rows))
    console.print(f"one PESQ score: {cost.one_ms:.1f} ms on one core; free cores here: {cost.cores}")
    base = base_of(arguments, config, points, cost)
    predicted = [predict(base, n, arguments.assume) for n in arguments.predict]
    assumed = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in asdict(arguments.assume).items())
    about = (
        f"Not measured. Start: {base.source}; {base.reduced / 1e6:.1f} MB in {base.exchanges} all-reduces a step. "
        f"Assumed: {assumed} (GB/s, µs, share)."
    )
    console.print(rich_table("predicted", PREDICTED_HEAD, scaling.prediction_rows(predicted)))
    console.print(about)
    found = {
        "machine": machine,
        "virtual": virtual,
        "preset": arguments.preset,
        "pesq": asdict(cost),
        "points": [point.to_dict() for point in points],
        "rows": [dict(zip(HEAD, row, strict=True)) for row in rows],
        "base": asdict(base),
        "assumptions": asdict(arguments.assume),
        "predictions": [asdict(prediction) for prediction in predicted],
    }
    if arguments.json is not None:
        write_json(arguments.json, found)
    if arguments.page is not None:
        write_text(arguments.page, scaling.page(subtitle, notes, rows, predicted, about))
    return found


def main() -> None:
    """Parse arguments and measure."""
    arguments = parse(Arguments, "cmgan scaling")
    _, batch = checked(arguments)
    refuse_file("--json", arguments.json)
    refuse_file("--page", arguments.page)
    refuse_same({"--json": arguments.json, "--page": arguments.page})
    prepare_programs()
    prepare_devices(max(arguments.devices), batch)
    find_devices()
    with fresh_programs():
        measure(arguments, table_console(WIDTH))
