"""Score enhanced speech: `cmgan evaluate --data DIR/test --checkpoint DIR`, or score given files.

Given files are scored by `cmgan evaluate --clean DIR --enhanced DIR`, without a model and without jax.
"""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import tyro

from cmgan_jax.cli._terminal import PLAIN_SECONDS, table_console, terminal_bar
from cmgan_jax.data import audio
from cmgan_jax.data.folders import RECORDINGS, files_below
from cmgan_jax.errors import UserError, printable
from cmgan_jax.evaluation import report, tables
from cmgan_jax.evaluation.evaluation import CLEAN, ENHANCED, NOISY, Case, Evaluation, evaluate, match_files, passed_over
from cmgan_jax.evaluation.scores import TIME_LIMIT
from cmgan_jax.inference.processor import NOT_FINITE
from cmgan_jax.inference.strength import Strength, refuse_strength
from cmgan_jax.metrics.scoring_pool import ScorePool
from cmgan_jax.system import signals, temporaries
from cmgan_jax.system.cores import free_cores
from cmgan_jax.system.outputs import refuse_file, refuse_folder, refuse_same, write_json, write_text
from cmgan_jax.version import find_version

if TYPE_CHECKING:
    from cmgan_jax.inference.enhancer import Enhancer

INCOMPLETE = 1
"""Exit status where a file lacks a score."""
_SYSTEM = re.compile(r"[\w.+ -]{1,40}")


@dataclass(frozen=True)
class Arguments:
    """Score enhanced files against clean ones, beside the noisy ones.

    Either --data, mostly with --checkpoint: enhance the noisy files and score what comes out. Or --clean and
    --enhanced: score files that any system made; no model is needed. Files belong together by name.

    The exit status is 0 where every file was scored, 1 where some were not, 2 where the arguments cannot work.
    """

    checkpoint: Path | None = None
    """A run folder (its best checkpoint), a checkpoint in it, or a published PyTorch file; without it the small model
    that comes with the package."""
    step: int | None = None
    """Which checkpoint of the run folder."""
    data: Path | None = None
    """A folder with clean/ and noisy/."""
    strength: Strength = 1.0
    """With --data: how much of the enhanced signal is heard, a share from 0 to 1, or `auto`, as `cmgan enhance` does by
    itself. A network is compared with others at 1."""
    generator_module: str = ""
    """MODULE:NAME of a generator of your own, for a run that was trained with it. Importing it runs its code."""
    clean: Path | None = None
    """Folder of clean files."""
    enhanced: Path | None = None
    """Folder of enhanced files."""
    noisy: Path | None = None
    """Folder of noisy files, to be scored beside the enhanced ones."""
    also: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=DIR: the folder of another system, to be scored and heard beside these; as often as wanted."""
    json: Path | None = None
    """Write every score and summary to this file."""
    csv: Path | None = None
    """Write a line of scores for each file to this one."""
    report: Path | None = None
    """Write a page to listen to, index.html, into this folder."""
    report_audio: int = 40
    """Files, the worst first, that the report holds audio and spectrograms of."""
    keep: Path | None = None
    """Keep the files that the checkpoint enhanced in this folder."""
    published_scale: bool = False
    """Compute CSIG, CBAK and COVL as the published evaluation does (on audio in [-1, 1]), which is too high."""
    narrow: bool = False
    """Measure narrow-band PESQ too."""
    detail: bool = False
    """Print the whole table for each group of files, too."""
    workers: int = 0
    """Processes that score; 0: one a core."""


def folders(arguments: Arguments) -> dict[str, Path]:
    """The folder of each system, in the order of tables, and of the clean files.

    Raises:
        UserError: the arguments name too little or too much.
    """
    a = arguments
    if a.data is not None:
        if a.clean or a.enhanced or a.noisy:
            raise UserError("--data stands alone: leave out --clean, --enhanced and --noisy")
        for side in (CLEAN, NOISY):
            if not (a.data / side).is_dir():
                hint = f"; did you mean --data {a.data / 'test'}?" if (a.data / "test" / side).is_dir() else ""
                raise UserError(f"--data {a.data}: no folder {side}/ in it{hint}")
        found = {CLEAN: a.data / CLEAN, NOISY: a.data / NOISY}
    else:
        if a.checkpoint is not None:
            raise UserError("--checkpoint needs --data DIR, a folder with clean/ and noisy/ to enhance and score")
        if a.clean is None or a.enhanced is None:
            raise UserError("nothing to score: name --data (and --checkpoint), or --clean and --enhanced")
        for option, given in (
            ("--step", a.step is not None),
            ("--keep", a.keep is not None),
            ("--strength", a.strength != 1),
        ):
            if given:
                raise UserError(f"{option} goes with --data")
        found = {CLEAN: a.clean, **({NOISY: a.noisy} if a.noisy else {}), ENHANCED: a.enhanced}
    for text in a.also:
        name, equals, folder = text.partition("=")
        if not equals or not folder or not _SYSTEM.fullmatch(name):
            raise UserError(f"--also {text}: write NAME=DIR, the name of letters, digits, spaces and . + - _")
        if name in (CLEAN, NOISY, ENHANCED, *tables.FIELDS) or name in found:
            raise UserError(f"--also {text}: the name {name} is taken")
        found[name] = Path(folder)
    if a.keep is not None and os.path.realpath(a.keep) in map(os.path.realpath, found.values()):
        raise UserError(f"--keep {a.keep}: its files are read, and would be replaced; name another folder")
    return found


def check(arguments: Arguments) -> None:
    """Refuse numbers and targets that cannot work, before an hour of scoring.

    Raises:
        UserError: with the remedy.
    """
    if arguments.workers < 0:
        raise UserError(f"--workers {arguments.workers}: it must be 0 (one a core) or more")
    if arguments.report_audio < 0:
        raise UserError(f"--report-audio {arguments.report_audio}: it must be 0 (no audio) or more")
    refuse_strength(arguments.strength)
    refuse_file("--json", arguments.json)
    refuse_file("--csv", arguments.csv)
    refuse_folder("--report", arguments.report)
    refuse_folder("--keep", arguments.keep)
    page = arguments.report / "index.html" if arguments.report else None
    refuse_same({"--json": arguments.json, "--csv": arguments.csv, "--report": page})


def load_enhancer(arguments: Arguments, noisy: Path) -> "Enhancer":
    """The model that the arguments name, for the recordings of a folder; here and nowhere else jax starts."""
    from cmgan_jax.inference.enhancer import Enhancer
    from cmgan_jax.inference.files import seconds_of
    from cmgan_jax.models.networks import trusting
    from cmgan_jax.runtime import cache_programs, find_devices, prepare_programs

    prepare_programs()
    cache_programs()
    find_devices()
    seconds = seconds_of(files_below(noisy, RECORDINGS))
    return Enhancer.from_checkpoint(
        arguments.checkpoint,
        step=arguments.step,
        seconds=seconds,
        network_factory=trusting(arguments.generator_module),
        strength=arguments.strength,
    )


def enhance_case(model: "Enhancer", target: Path, case: Case) -> Path:
    """Enhance a case's noisy file into a folder, as 32-bit float: no rounding is scored.

    Raises:
        AudioError: the noisy file cannot be enhanced.
    """
    noisy = case.paths[NOISY]
    info = audio.probe(noisy)
    if info.channels != 1:
        raise audio.AudioError(noisy, f"{info.channels} channels: score one channel at a time")
    signal = audio.read(noisy)
    try:
        enhanced = model.enhance(signal, info.sample_rate)
    except ValueError as error:
        raise audio.AudioError(noisy, f"cannot be enhanced: {error}") from error
    if not np.isfinite(enhanced).all():
        raise audio.AudioError(noisy, NOT_FINITE)
    path = target / f"{case.name}.wav"
    audio.write(path, enhanced, info.sample_rate, subtype="FLOAT")
    return path


def score(arguments: Arguments, model: "Enhancer | None", work: ExitStack) -> Evaluation:
    """Find, enhance and score the files; what `work` holds is open until the evaluation has been used."""
    where = folders(arguments)
    cases = match_files(where, ENHANCED if model else None)
    systems = [system for system in where if system != CLEAN]
    make = None
    if model:
        systems.insert(systems.index(NOISY) + 1, ENHANCED)
        target = arguments.keep or work.enter_context(temporaries.folder())
        make = partial(enhance_case, model, target)
    workers = min(arguments.workers or free_cores(), len(cases) * len(systems))
    pool = work.enter_context(ScorePool(workers, time_limit=TIME_LIMIT))
    work.enter_context(_closed_on_interrupt(pool))
    with _Meter("enhancing and scoring" if model else "scoring") as meter:
        return evaluate(
            cases,
            systems,
            pool,
            make=make,
            published_scale=arguments.published_scale,
            narrow=arguments.narrow,
            progress=meter.update,
        )


def about(arguments: Arguments, model: "Enhancer | None") -> dict[str, Any]:
    """What was compared, for records."""
    named = {name: getattr(arguments, name) for name in ("data", "clean", "enhanced", "noisy")}
    source = {name: str(path) for name, path in named.items() if path is not None}
    if model:
        source |= {"checkpoint": model.weights.label, "step": str(model.weights.step)}
        source["strength"] = str(arguments.strength)
    if arguments.also:
        source["also"] = ", ".join(arguments.also)
    if lines := passed_over(folders(arguments)):
        source["no recordings"] = "; ".join(lines)
    return {"version": find_version(), "source": source}


def publish(evaluation: Evaluation, arguments: Arguments, source: dict[str, Any]) -> None:
    """Write what was asked for, then print the tables, also where something could not be written.

    Raises:
        UserError: the file system has refused a file; everything else has been written.
    """
    try:
        pages, lost = _write(evaluation, arguments, source)
    finally:
        console = table_console(tables.PLAIN_WIDTH)
        tables.show(evaluation, console, published_scale=arguments.published_scale, detail=arguments.detail)
        if "no recordings" in source["source"]:
            print(f"no recordings: {source['source']['no recordings']}")
    for line in pages:
        print(line)
    if lost:
        raise UserError("\n".join(lost))


def _write(evaluation: Evaluation, arguments: Arguments, source: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Write what was asked for; words for a page that is there, and for what the file system has refused."""
    pages: list[str] = []
    lost: list[str] = []
    scale = arguments.published_scale
    if arguments.json:
        with _collect(lost, arguments.json):
            write_json(arguments.json, tables.document(evaluation, published_scale=scale, about=source))
    if arguments.csv:
        with _collect(lost, arguments.csv):
            write_text(arguments.csv, tables.to_csv(evaluation))
    if arguments.report:
        with _collect(lost, arguments.report):
            page = report.build(evaluation, published_scale=scale, source=source, audio_files=arguments.report_audio)
            arguments.report.mkdir(parents=True, exist_ok=True)
            write_text(arguments.report / "index.html", page.html)
            pages.append(f"{arguments.report / 'index.html'}: {page.describe()}")
    return pages, lost


@contextmanager
def _collect(lost: list[str], path: Path) -> Iterator[None]:
    """Note what the file system refuses, and go on."""
    try:
        yield
    except OSError as error:
        lost.append(f"{printable(path)}: not written: {error.strerror or error}")


def main() -> int:
    """Parse, score, print and write; the status tells whether every file was scored."""
    arguments = tyro.cli(Arguments, prog="cmgan evaluate", config=(tyro.conf.FlagCreatePairsOff,))
    check(arguments)
    # What cannot work is refused before a model is loaded: flags, and files without a partner.
    where = folders(arguments)
    match_files(where, ENHANCED if arguments.data else None)
    model = load_enhancer(arguments, where[NOISY]) if arguments.data else None
    source = about(arguments, model)  # before the scores, which nothing may lose any more
    with ExitStack() as work:
        evaluation = score(arguments, model, work)
        publish(evaluation, arguments, source)
    return 0 if evaluation.complete else INCOMPLETE


@contextmanager
def _closed_on_interrupt(pool: ScorePool) -> Iterator[None]:
    """A signal ends the scoring processes at once: without this, what is being scored would be waited for."""
    usual = {number: signal.getsignal(number) for number in signals.heeded()}

    def close(number: int, frame: FrameType | None) -> None:
        # In a thread: what was interrupted may hold the lock that closing takes.
        threading.Thread(target=pool.close).start()
        if callable(handler := usual[signal.Signals(number)]):
            handler(number, frame)

    with signals.caught(close):
        yield


class _Meter:
    """A bar on a terminal, a line every ten seconds elsewhere; both on standard error."""

    def __init__(self, label: str) -> None:
        self._bar = terminal_bar(transient=True)
        self._task = self._bar.add_task(label, total=None) if self._bar else None
        self._label, self._printed = label, time.monotonic()

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` scores are there."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            print(f"{self._label}: {done} of {total}", file=sys.stderr, flush=True)
