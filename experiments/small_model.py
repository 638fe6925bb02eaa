"""Training of the packaged small model: `python -m experiments.small_model --corpora DIR… --out runs/small`.

First the generator alone learns from the metric losses, without a discriminator: a step takes less time, and a
discriminator that cannot rank yet only disturbs. Then both networks train from there. VoiceBank+DEMAND is used for
neither training nor model selection.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from cmgan_jax.cli._cli import run
from cmgan_jax.data.corpus import CorpusSource
from cmgan_jax.data.layout import find
from cmgan_jax.errors import UserError
from cmgan_jax.runs.folder import is_run

SPEECH = (
    "speech/librispeech",
    "speech/vctk",
    "speech/picovoice_barista",
    "speech/arabic_commands",
    "speech/en",
    "speech/it",
)
"""Folders of a corpus used for training, if they exist."""
NOISE = "noise"
HELD_OUT = 10
"""One in this many speakers, sorted by name, is held out."""

Stage = Literal["losses", "metric"]

SHARED = {
    "--data.validation-files": "48",
    "--augmentation.clean-share": "0.08",
    "--augmentation.reflection-share": "0.1",
    "--augmentation.narrow-band-share": "0.1",
    "--augmentation.clipping-share": "0.05",
    "--augmentation.level-share": "0.3",
}
"""Settings of both stages, in addition to those of the preset."""

STAGES: dict[Stage, dict[str, str]] = {
    "losses": {
        "--epochs": "80",
        "--optimiser.decay-every": "20",
        "--loss.adversarial": "0",
        "--targets.every": "0",
    },
    "metric": {
        "--epochs": "40",
        "--optimiser.generator-rate": "3e-4",
        "--optimiser.decay-every": "10",
    },
}
"""Settings that a stage changes."""


@dataclass(frozen=True)
class Arguments:
    """Train the small model, one stage at a time; an interrupted stage continues where it stopped."""

    corpora: tuple[Path, ...]
    """Folders with speech/ and noise/."""
    out: Path
    """Folder of the runs, one per stage."""
    stage: Stage = "losses"
    """`losses`: the generator alone. `metric`: both networks, from the best checkpoint of the first stage."""
    start: Path | None = None
    """Other weights to start from."""
    seed: int = 0
    """Seed of all random draws."""


def folders(corpora: tuple[Path, ...]) -> CorpusSource:
    """Collect the folders of speech and noise to train on.

    Raises:
        UserError: none of the folders has any.
    """
    speech = tuple(found for corpus in corpora for name in SPEECH if (found := corpus / name).is_dir())
    noise = tuple(found for corpus in corpora if (found := corpus / NOISE).is_dir())
    if not (speech and noise):
        raise UserError(f"--corpora {' '.join(map(str, corpora))}: no speech/{{librispeech,…}} and noise/ below them")
    return CorpusSource(speech=speech, noise=noise)


def held_out(source: CorpusSource) -> list[str]:
    """Return the labels of the speakers held out for validation."""
    return sorted({clip.speaker for clip in find(source).speech})[::HELD_OUT]


def command(arguments: Arguments) -> list[str]:
    """Build the command line that trains a stage.

    Raises:
        UserError: the first stage has not been trained.
    """
    out = arguments.out / arguments.stage
    words = [sys.executable, "-m", "cmgan_jax", "train", "--out", str(out)]
    source = folders(arguments.corpora)
    words += ["--speech", *map(str, source.speech), "--noise", *map(str, source.noise)]
    if is_run(out):
        return [*words, "--resume"]
    settings = SHARED | STAGES[arguments.stage] | {"--seed": str(arguments.seed)}
    start = arguments.start
    if start is None and arguments.stage == "metric":
        start = arguments.out / "losses"
        if not is_run(start):
            raise UserError(f"{start} holds no run: train --stage losses first, or name other weights with --start")
    if start is not None:
        settings["--start"] = str(start)
    words += ["--recipe", "recommended", "--preset", "small", "--data.validation-speakers", *held_out(source)]
    return [*words, *(word for setting in settings.items() for word in setting)]


def main() -> int:
    """Replace this process by the training of the stage."""
    words = command(tyro.cli(Arguments, prog="python -m experiments.small_model"))
    print(" ".join(words), flush=True)
    # The training replaces this program, so that a signal reaches it.
    os.execv(words[0], words)


if __name__ == "__main__":
    run(main)
