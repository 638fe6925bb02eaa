"""Prepare training data: VoiceBank+DEMAND from its downloads, your own recordings, or the built-in demo corpus."""

import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cmgan_jax.cli._terminal import PLAIN_SECONDS, terminal_bar
from cmgan_jax.data import manifest
from cmgan_jax.data.prepare.demo import prepare_demo
from cmgan_jax.data.prepare.own import Kind, prepare
from cmgan_jax.data.prepare.voicebank import prepare_voicebank
from cmgan_jax.system.outputs import refuse_folder

SOME_FAILED = 1
"""Exit status when at least one recording could not be used; the others were."""


def voicebank(
    source: Annotated[Path, tyro.conf.Positional],
    out: Path,
    speakers: Literal[28, 56] | None = None,
) -> None:
    """Convert the downloaded VoiceBank+DEMAND (48 kHz zips or folders) to 16 kHz train and test pairs.

    Args:
        source: Folder with clean_trainset_28spk_wav.zip, noisy_trainset_28spk_wav.zip, clean_testset_wav.zip
            and noisy_testset_wav.zip, or the unpacked folders of these names.
        out: Folder to make. Run again to repair it, or to continue after an interruption.
        speakers: Training set of 28 or 56 speakers; by default the one that exists, 28 if both do.
    """
    refuse_folder("--out", out)
    with _Meter() as meter:
        prepare_voicebank(source, out, speakers=speakers, progress=meter.update)
    _summarise(out)


def pairs(source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")], out: Path) -> int:
    """Convert your own clean and noisy recordings, of any rate, format and channel count, to 16 kHz pairs.

    Channels are averaged; levels are kept and nothing is clipped (files that 16 bits cannot hold are stored as 32-bit
    floats). Exit status: 0 for success, 1 if some files cannot be used (each is named with the reason, the others are
    converted), 2 if nothing could be done.

    Args:
        source: Folder with clean/ and noisy/, or with train/, validation/ or test/ that have clean/ and noisy/. Files
            of equal names are pairs; folders inside these are kept, and the first one identifies the speaker.
        out: Folder to make, for --data. Run again to continue after an interruption, or to apply changes.
    """
    return _own("pairs", source, out)


def speech(source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")], out: Path) -> int:
    """Convert your own clean speech, or noise, of any rate, format and channel count, to 16 kHz.

    Storage and exit status are as for `pairs`.

    Args:
        source: Folder of recordings, at any depth; with speech/ and noise/ in it, the result is a corpus for --data.
        out: Folder to make, for --speech, --noise or --data. Run again to continue after an interruption, or to apply
            changes.
    """
    return _own("speech", source, out)


def _own(kind: Kind, source: Path, out: Path) -> int:
    with _Meter() as meter:
        found = prepare(kind, source, out, meter.update)
    _summarise(out)
    for note in (f"{found.made} files converted, {found.kept} kept", *found.notes):
        print(f"  {note}")
    if not found.problems:
        return 0
    print(f"{len({problem.path for problem in found.problems})} files cannot be used and are left out:")
    for problem in found.problems:
        print(f"  {problem}")
    return SOME_FAILED


def demo(out: Path = Path("data/demo"), synthetic: bool = False) -> None:
    """Make the built-in corpus: recorded prompts, generated noise and held-out mixtures.

    Args:
        out: Folder to make.
        synthetic: Synthesise the speech instead of downloading recordings.
    """
    refuse_folder("--out", out)
    prepare_demo(out, synthetic=synthetic, progress=lambda line: print(line, flush=True))
    _summarise(out)


def _summarise(out: Path) -> None:
    whole = manifest.read(out)
    assert whole is not None  # the library has just written or checked it
    for folder, total in whole.totals().items():
        print(f"  {folder or '.':18} {total['files']:6} files {total['hours']:8.3f} h")
    print(f"{out} is whole: {whole.corpus}, fingerprint {whole.fingerprint[:16]}")


class _Meter:
    """A progress bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._bar = terminal_bar()
        self._task, self._label, self._printed = None, "", 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> "_Meter":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, label: str, done: int, total: int) -> None:
        """Show that `done` of `total` items are finished in the task that `label` names."""
        with self._lock:
            new, self._label = label != self._label, label
            if self._bar:
                if new or self._task is None:
                    self._task = self._bar.add_task(label, total=total)
                self._bar.update(self._task, completed=done)
            elif new or done == total or time.monotonic() - self._printed > PLAIN_SECONDS:
                self._printed = time.monotonic()
                print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)


def main() -> int | None:
    """Parse the command line and prepare what it names."""
    return tyro.extras.subcommand_cli_from_dict(
        {"voicebank": voicebank, "pairs": pairs, "speech": speech, "demo": demo},
        prog="cmgan prepare",
        description=__doc__,
    )
