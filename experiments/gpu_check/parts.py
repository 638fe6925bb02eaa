"""The parts of the check, in order of worth: which commands each runs. What they found is read by `digests`."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config
from cmgan_jax.runs.folder import is_run
from experiments import small_model
from experiments.gpu_check import digests
from experiments.gpu_check.digests import Digest, Found
from experiments.pytorch_baseline.client import require_torch

STEP_BATCHES = (4, 16)
"""Crops of the steps that are timed."""
LARGEST = {"fp32": 16, "bf16": 32}
"""The largest batch in each precision, by XLA's count of memory."""
MODES = ("eager-bf16", "compiled-bf16")
"""How PyTorch computes."""
SMALL_STEPS = 400
"""Steps of preset `small` whose speed is taken."""
PAPER_SECONDS = 900.0
"""Seconds of training at the paper's size, over all calls."""
PAPER = {
    "--epochs": "30",
    "--steps-per-epoch": "1000",
    "--batch": "4",
    "--data.validation-files": "48",
    "--save-every": "2min",
    "--precision": "bf16",
}
"""Settings of the training at the paper's size: epochs short enough for a curve."""
LEAST = {"--generator.blocks": "0", "--generator.dense-depth": "0"}
"""What is left out of the networks in a rehearsal, so that they compile fast."""
REHEARSED = LEAST | {
    "--preset": "tiny",
    "--precision": "fp32",
    "--epochs": "1",
    "--steps-per-epoch": "2",
    "--data.validation-files": "2",
}
"""What a rehearsal changes in a training."""


@dataclass(frozen=True)
class Settings:
    """What all parts share.

    Attributes:
        out: folder of the records.
        runs: folder of trainings and logs.
        corpora: folders with speech/ and noise/.
        reference: folder of the published weights and outputs.
        rehearse: the smallest sizes, on a CPU.
        environment: variables of every command.
    """

    out: Path
    runs: Path
    corpora: tuple[Path, ...] = ()
    reference: Path = Path("../shared/reference")
    rehearse: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One command.

    Attributes:
        name: within its part.
        words: after `python -m`.
        result: the file that it writes; None: it is a training, which tells by its run folder.
        environment: variables that it needs besides.
        stops_well: a training, which saves when it is asked to end and goes on at the next call.
    """

    name: str
    words: tuple[str, ...]
    result: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    stops_well: bool = False


@dataclass(frozen=True)
class Plan:
    """What a part does in this call.

    Attributes:
        cases: commands, one after another.
        left_out: why nothing is run at all; empty: something is.
        notes: what is left out of it, and why.
    """

    cases: tuple[Case, ...] = ()
    left_out: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One part of the check.

    Attributes:
        name: of its record and on the command line.
        title: for people.
        plan: what it runs.
        digest: what its results say, from the folder of trainings and the cases' results.
        goes_on: every call goes on with it until its digest says that it is finished.
        most: seconds over all calls; None: as long as it takes.
    """

    name: str
    title: str
    plan: Callable[[Settings], Plan]
    digest: Callable[[Path, Found], Digest]
    goes_on: bool = False
    most: float | None = None


def _file(settings: Settings, part: str, case: str, suffix: str = "json") -> Path:
    return settings.out / "cases" / f"{part}-{case}.{suffix}"


def _benchmark(settings: Settings, part: str, case: str, batch: int, precision: str, *words: str) -> Case:
    file = _file(settings, part, case)
    preset = "small" if part == "small" else "paper"
    repeats = "5"
    if settings.rehearse:
        preset, batch, precision, repeats = "tiny", 1, "fp32", "1"
    how = ("--preset", preset, "--batch", str(batch), "--precision", precision, "--repeats", repeats)
    if settings.rehearse:
        how = with_flags(how, LEAST)
    return Case(case, ("experiments.benchmark", *words, *how, "--json", str(file)), file)


def plan_kernels(settings: Settings) -> Plan:
    """Layers, whole networks, and the tests of parity where pytest is there."""
    cases, notes = [], []
    for what in ("layers", "networks"):
        file = _file(settings, "kernels", what)
        words = ("experiments.gpu_check.kernels", "--what", what, "--reference", str(settings.reference))
        cases.append(Case(what, (*words, "--json", str(file), *(["--rehearse"] if settings.rehearse else [])), file))
    if not settings.reference.is_dir():
        notes.append(f"no published reference in {settings.reference}: networks have random weights")
    elif settings.rehearse:
        notes.append("a rehearsal leaves the published reference out")
    elif importlib.util.find_spec("pytest") is None:
        notes.append("pytest is not installed: the tests of parity are left out")
    else:
        file = _file(settings, "kernels", "parity", "xml")
        words = ("pytest", "tests/test_parity.py", "-q", "-o", "filterwarnings=default", f"--junitxml={file}")
        # The tests' own set-up asks for a CPU, and leaves the precision of products to the device.
        environment = {"JAX_PLATFORMS": "cuda", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
        cases.append(Case("parity", words, file, environment))
    return Plan(tuple(cases), notes=tuple(notes))


def plan_step(settings: Settings) -> Plan:
    """A step at each batch, with PESQ and with a constant; nothing else runs on the cores."""
    batches = STEP_BATCHES[:1] if settings.rehearse else STEP_BATCHES
    return Plan(
        tuple(
            _benchmark(settings, "step", f"batch-{batch}", batch, "bf16", "--part", "train", "pesq")
            for batch in batches
        )
    )


def plan_pytorch(settings: Settings) -> Plan:
    """Ours and PyTorch in turns, one of its modes at a time, so that one that ends leaves the other."""
    try:
        require_torch("pesq")
    except UserError as error:
        return Plan(left_out=str(error))
    modes = ("eager-fp32",) if settings.rehearse else MODES
    return Plan(
        tuple(
            _benchmark(settings, "pytorch", mode, 4, "bf16", "--part", "train", "--against", "torch", "--modes", mode)
            for mode in modes
        )
    )


def plan_memory(settings: Settings) -> Plan:
    """The largest batches, each alone on the device."""
    sizes = {"fp32": 1} if settings.rehearse else LARGEST
    return Plan(
        tuple(
            _benchmark(settings, "memory", f"{precision}-{batch}", batch, precision, "--part", "train")
            for precision, batch in sizes.items()
        )
    )


def plan_small(settings: Settings) -> Plan:
    """Preset `small`: its step on ready crops, and a short training on files."""
    if not settings.corpora:
        return Plan(left_out=NO_CORPUS)
    batch = make_config(preset="small").batch
    step = _benchmark(settings, "small", "step", batch, "fp32", "--part", "train", "pesq")
    settings_of_training = {"--epochs": "1", "--steps-per-epoch": str(SMALL_STEPS), "--data.validation-files": "4"}
    training = _training(settings, "small", settings.runs / digests.SMALL_SPEED, settings_of_training)
    return Plan((step, training))


def plan_train_small(settings: Settings) -> Plan:
    """The next stage of the small model's training that is not finished."""
    if not settings.corpora:
        return Plan(left_out=NO_CORPUS)
    out = settings.runs / digests.TRAIN_SMALL
    stage: small_model.Stage = "metric" if digests.is_finished(out / "losses") else "losses"
    words = small_model.command(small_model.Arguments(corpora=settings.corpora, out=out, stage=stage))
    return Plan((_case_of(settings, stage, tuple(words[words.index("-m") + 1 :])),))


def plan_paper(settings: Settings) -> Plan:
    """The paper's size on the corpora, for the time that is left of its quarter of an hour."""
    if not settings.corpora:
        return Plan(left_out=NO_CORPUS)
    return Plan((_training(settings, "paper", settings.runs / digests.PAPER, PAPER),))


NO_CORPUS = "no corpus: name folders with speech/ and noise/ with --corpora"
"""Why trainings are left out."""


def _training(settings: Settings, preset: str, out: Path, flags: dict[str, str]) -> Case:
    """A training on the corpora, or its continuation."""
    source = small_model.folders(settings.corpora)
    words = ["cmgan_jax", "train", "--out", str(out)]
    words += ["--speech", *map(str, source.speech), "--noise", *map(str, source.noise)]
    if is_run(out):
        return _case_of(settings, "training", (*words, "--resume"))
    words += ["--recipe", "recommended", "--preset", preset]
    words += ["--data.validation-speakers", *small_model.held_out(source)]
    return _case_of(settings, "training", (*words, *(word for flag in flags.items() for word in flag)))


def _case_of(settings: Settings, name: str, words: tuple[str, ...]) -> Case:
    """A training as a case; in a rehearsal that of preset `tiny`."""
    if settings.rehearse and "--resume" not in words:
        words = with_flags(words, REHEARSED)
    return Case(name, words, stops_well=True)


def with_flags(words: tuple[str, ...], flags: dict[str, str]) -> tuple[str, ...]:
    """A command line in which flags with one value have other values; those that it lacks are added at its end."""
    changed = list(words)
    for flag, value in flags.items():
        if flag in changed:
            changed[changed.index(flag) + 1] = value
        else:
            changed += [flag, value]
    return tuple(changed)


PARTS = (
    Part("kernels", "Kernels and networks beside the plain form and the reference", plan_kernels, digests.kernels),
    Part("step", "A training step at the paper's size", plan_step, digests.step),
    Part("pytorch", "Beside PyTorch", plan_pytorch, digests.pytorch),
    Part("memory", "The largest batches", plan_memory, digests.memory),
    Part("small", "Preset small: what limits its training", plan_small, digests.small),
    Part("train-small", "Training of the small model", plan_train_small, digests.train_small, goes_on=True),
    Part("paper", "Training at the paper's size", plan_paper, digests.paper, True, PAPER_SECONDS),
)
"""In order of worth."""
NAMES = tuple(part.name for part in PARTS)
