"""Clean recordings: `cmgan enhance FILE|DIR ...`."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from cmgan_jax.cli._terminal import terminal_bar
from cmgan_jax.data.audio import AudioError
from cmgan_jax.errors import printable
from cmgan_jax.inference.enhance import WindowConfig
from cmgan_jax.inference.enhancer import Enhancer
from cmgan_jax.inference.files import Done, Job, enhance_file, left_out, plan, seconds_of
from cmgan_jax.inference.strength import Strength, refuse_strength
from cmgan_jax.models.networks import trusting
from cmgan_jax.runtime import cache_programs, find_devices, prepare_programs

SOME_FAILED = 1
"""Exit status when at least one file could not be enhanced; the others are."""


@dataclass(frozen=True)
class Arguments:
    """Enhance recordings. Format, sub-type, rate, length and level are kept; what lies above 8 kHz is left out.

    Exit status: 0 all went well, 1 some files failed (each is named with the reason), 2 nothing could be done.
    """

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE|DIR")]
    """Recordings (WAV, FLAC, OGG, MP3 and others), and folders of them."""
    checkpoint: Path | None = None
    """Run folder, checkpoint, or a generator's state dict as PyTorch saved it; without it the small model that comes
    with the package."""
    out: Path = Path("enhanced")
    """Folder of the results; a folder's structure is kept in it. Inputs are never replaced."""
    strength: Strength = "auto"
    """How much of the enhanced signal is heard: a share from 0 (nothing changes) to 1, or `auto`, which takes less of
    it the cleaner a recording already is."""
    step: int | None = None
    """Which checkpoint of a run folder; without it the best."""
    generator_module: str = ""
    """MODULE:NAME of a generator of your own, for a run that was trained with it. Importing it runs its code."""
    mono: bool = False
    """Enhance the mean of the channels, as one channel; otherwise each channel by itself."""
    windows: Annotated[WindowConfig, tyro.conf.arg(name="")] = field(default_factory=WindowConfig)


class ProgressDisplay:
    """A progress bar on a terminal, a line a file elsewhere."""

    def __init__(self, total: int):
        self._total, self._count = total, 0
        self._bar = terminal_bar()
        self._task = self._bar.add_task("", total=total) if self._bar else None

    def __enter__(self) -> "ProgressDisplay":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def begin(self, job: Job) -> None:
        """A file is taken up."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=printable(job.name)[-40:])

    def advance(self, share: float) -> None:
        """So much of the file is through, 0 to 1."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._count + share)

    def end(self, job: Job, outcome: Done | AudioError) -> None:
        """A file is through, or has failed."""
        self._count += 1
        self.advance(0.0)
        place = f"[{self._count}/{self._total}] {printable(job.name)}"
        if isinstance(outcome, AudioError):
            self._print(f"{place}: failed: {outcome.reason}")
        elif outcome.clipped:
            self._print(
                f"{place}: {outcome.clipped} samples were beyond full scale (peak {outcome.peak:.2f}) and are clipped"
            )
        elif not self._bar:
            self._print(f"{place}: {outcome.seconds:.1f} s")
        if isinstance(outcome, Done) and outcome.lost:
            self._print(f"{place}: not kept: {outcome.lost}")

    def _print(self, line: str) -> None:
        if self._bar:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Parse, load, enhance file after file."""
    arguments = tyro.cli(Arguments, prog="cmgan enhance", config=(tyro.conf.FlagCreatePairsOff,))
    refuse_strength(arguments.strength)
    jobs = plan(arguments.inputs, arguments.out)
    passed_over = left_out(arguments.inputs, arguments.out)
    prepare_programs()
    cache_programs()
    find_devices()
    seconds = seconds_of(job.source for job in jobs)
    enhancer = Enhancer.from_checkpoint(
        arguments.checkpoint,
        arguments.step,
        arguments.windows,
        seconds,
        trusting(arguments.generator_module),
        arguments.strength,
    )
    failed = []
    with ProgressDisplay(len(jobs)) as display:
        for job in jobs:
            display.begin(job)
            try:
                outcome = enhance_file(enhancer, job, arguments.mono, display.advance)
            except AudioError as error:
                outcome = error
                failed.append(error)
            display.end(job, outcome)
    print(f"{len(jobs) - len(failed)} of {len(jobs)} enhanced into {arguments.out}")
    if passed_over:
        print(f"  no recordings, passed over: {passed_over}")
    for error in failed:
        print(f"  failed: {error}")
    return SOME_FAILED if failed else 0
