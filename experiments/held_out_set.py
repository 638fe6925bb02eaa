"""Mixtures of what `experiments.small_model` holds out: `python -m experiments.held_out_set --corpora DIR… --out DIR`.

Speakers and recordings of noise are those that validate in that training, of which nothing trains. The set is a
function of the corpora, their order, and the seed. `--out` gets clean/ and noisy/ and a table of the mixtures.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import tyro

from cmgan_jax.cli._cli import run
from cmgan_jax.config import Config
from cmgan_jax.data import audio, mixing
from cmgan_jax.data.corpus import Clip, Corpus
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.sources import recording
from cmgan_jax.errors import UserError
from cmgan_jax.evaluation.evaluation import CLEAN, NOISY
from cmgan_jax.recipes import make_config, override
from cmgan_jax.runs.folder import read_about
from cmgan_jax.system.outputs import write_json, write_text
from experiments.small_model import folders, held_out

BANDS = ((-5.0, 0.0), (0.0, 5.0), (5.0, 10.0), (10.0, 15.0), (15.0, 20.0), (20.0, 25.0))
"""Input SNRs in dB between which each band's mixtures are drawn."""
SECONDS = (3.0, 8.0)
"""Shortest and longest mixture; a clip of speech that is shorter than the first is left out."""
MIXTURES, DESCRIPTION = "mixtures.csv", "set.json"
"""Files of the set beside its recordings: what was mixed, and what identifies the set."""
_TRIES = 100
"""Draws of a crop of noise before a recording counts as silent."""


@dataclass(frozen=True)
class Arguments:
    """Make the set of held-out mixtures, the same at every call."""

    corpora: tuple[Path, ...]
    """Folders with speech/ and noise/, in the order in which the training was given them."""
    out: Path
    """Folder of the set; it must be empty or absent."""
    per_band: int = 12
    """Mixtures in each of the six bands of input SNR."""
    seed: int = 0
    """Of every draw."""
    run: Path | None = None
    """A run folder; refuse if its training holds out anything else."""


@dataclass(frozen=True)
class Mixture:
    """What a file of the set was made of.

    Attributes:
        name: of the file in clean/ and noisy/, without the suffix.
        snr: ratio of the active powers in dB.
        speaker: label of who speaks.
        speech: name of the clip of speech.
        speech_start: sample of the clip at which the mixture begins.
        noise: name of the clip of noise.
        noise_start: sample of that clip; it is repeated where it is too short.
        samples: length of the mixture at 16 kHz.
    """

    name: str
    snr: float
    speaker: str
    speech: str
    speech_start: int
    noise: str
    noise_start: int
    samples: int


def training_config(corpora: tuple[Path, ...]) -> Config:
    """The config of `experiments.small_model`'s training, as far as it decides what is held out."""
    speakers = tuple(held_out(folders(corpora)))
    return override(make_config(preset="small"), {"data.validation_speakers": speakers})


def held_out_corpus(corpora: tuple[Path, ...]) -> Corpus:
    """The corpus of that training, checked and divided.

    Raises:
        UserError: there is none, or files of it are bad.
    """
    return open_corpus(folders(corpora), training_config(corpora))


def refuse_other_division(corpus: Corpus, run_folder: Path) -> None:
    """Make sure that a training holds out what this corpus does.

    Raises:
        UserError: it does not, or it has not recorded what it holds out.
    """
    division = read_about(run_folder).get("provenance", {}).get("data", {}).get("division")
    if division != corpus.division:
        raise UserError(
            f"--run {run_folder}: its training held out other files than these corpora do; "
            "name the corpora that it was given, in the same order"
        )


def plan(corpus: Corpus, per_band: int, seed: int) -> Iterator[tuple[Mixture, np.ndarray, np.ndarray]]:
    """Draw the mixtures: speakers and recordings of noise take turns, each in an order that the seed decides.

    Args:
        corpus: its held-out part is used.
        per_band: mixtures of each band.
        seed: of every draw.

    Yields:
        Each mixture with its clean and noisy samples, float32 [S] in [-1, 1] at the corpus's rate.

    Raises:
        UserError: no held-out clip of speech is long enough, or a recording of noise is silent.
        AudioError: a file has gone or is damaged.
    """
    rng = np.random.default_rng(seed)
    rate = corpus.sample_rate
    shortest, longest = (round(seconds * rate) for seconds in SECONDS)
    clips = [clip for clip in corpus.validation if isinstance(clip, Clip) and clip.frames >= shortest]
    if not clips:
        raise UserError(f"no held-out clip of speech lasts {SECONDS[0]} s: name corpora with longer ones (--corpora)")
    voices = _in_turns(rng, [[clip for clip in clips if clip.speaker == name] for name in _sorted(clips)])
    groups: dict[str, list[Clip]] = {}
    for clip in corpus.validation_noise:
        groups.setdefault(recording(clip.name), []).append(clip)
    noises = _in_turns(rng, [groups[name] for name in sorted(groups)])
    for low, high in BANDS:
        for number in range(per_band):
            speech, noise = next(voices), next(noises)
            samples = int(rng.integers(shortest, min(longest, speech.frames) + 1))
            begin = mixing.crop_start(rng, speech.frames, samples)
            noise_begin, sound = _audible(rng, noise, samples)
            snr = round(float(rng.uniform(low, high)), 2)
            name = f"snr{low:+03.0f}_{number + 1:02d}"
            mixture = Mixture(name, snr, speech.speaker, speech.name, begin, noise.name, noise_begin, samples)
            yield mixture, *mixing.mix(audio.read(speech.path, begin, samples), sound, snr)


def _sorted(clips: Sequence[Clip]) -> list[str]:
    return sorted({clip.speaker for clip in clips})


def _in_turns(rng: np.random.Generator, groups: list[list[Clip]]) -> Iterator[Clip]:
    """Clips without end: every group once, then every group once more in a new order; within a group, any clip."""
    while True:
        for index in rng.permutation(len(groups)):
            yield groups[index][int(rng.integers(len(groups[index])))]


def _audible(rng: np.random.Generator, clip: Clip, samples: int) -> tuple[int, np.ndarray]:
    """Where a crop of noise begins that is not silent, and the crop [S]."""
    for _ in range(_TRIES):
        begin = mixing.crop_start(rng, clip.frames, samples)
        sound = mixing.repeat_to(audio.read(clip.path, begin, min(samples, clip.frames - begin)), samples)
        if mixing.active_power(sound) > 0:
            return begin, sound
    raise UserError(f"{clip.path}: silent in {_TRIES} crops; remove it from the noise")


def make(corpus: Corpus, out: Path, per_band: int, seed: int) -> list[Mixture]:
    """Write the set: clean/ and noisy/ as 16-bit FLAC, the table of mixtures, and what identifies the set.

    Raises:
        UserError: the folder holds something, or the corpus is of no use.
    """
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out}: it is not empty; name another folder")
    digest, mixtures = hashlib.sha256(), []
    for mixture, *sides in plan(corpus, per_band, seed):
        for side, samples in zip((CLEAN, NOISY), sides, strict=True):
            path = out / side / f"{mixture.name}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            audio.write(path, samples, corpus.sample_rate)
            stored = np.rint(audio.read(path) * 2**15).astype("<i2")
            digest.update(f"{side}/{mixture.name}\n".encode() + stored.tobytes())
        mixtures.append(mixture)
    write_text(out / MIXTURES, table(mixtures))
    about = {
        "what": "mixtures of held-out speakers and held-out recordings of noise",
        "seed": seed,
        "per_band": per_band,
        "division": corpus.division,
        "samples": digest.hexdigest(),
    }
    write_json(out / DESCRIPTION, about)
    return mixtures


def table(mixtures: Sequence[Mixture]) -> str:
    """The mixtures as CSV, a line each."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Mixture)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(mixture) for mixture in mixtures)
    return text.getvalue()


def main() -> None:
    """Make the set and tell its size."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.held_out_set")
    if arguments.per_band < 1:
        raise UserError(f"--per-band {arguments.per_band}: it must be 1 or more")
    corpus = held_out_corpus(arguments.corpora)
    if arguments.run is not None:
        refuse_other_division(corpus, arguments.run)
    mixtures = make(corpus, arguments.out, arguments.per_band, arguments.seed)
    seconds = sum(mixture.samples for mixture in mixtures) / corpus.sample_rate
    speakers = len({mixture.speaker for mixture in mixtures})
    noises = len({recording(mixture.noise) for mixture in mixtures})
    print(
        f"{arguments.out}: {len(mixtures)} mixtures, {seconds:.0f} s, {speakers} speakers, {noises} recordings of noise"
    )


if __name__ == "__main__":
    run(main)
