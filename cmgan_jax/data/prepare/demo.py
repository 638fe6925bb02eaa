"""The built-in corpus: recorded prompts (or synthesised speech), generated noise, and fixed held-out mixtures.

======================================  ============================================
``speech/<speaker>/NAME.flac``          clean speech to train on
``noise/<kind>_NN.flac``                noise to mix it with
``validation/{clean,noisy}/NAME.flac``  mixtures of other utterances with other noise
``COPYRIGHT``, ``manifest.json``        whose recordings they are; what is there
======================================  ============================================
"""

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cmgan_jax.data import audio, manifest
from cmgan_jax.data.prepare import folder
from cmgan_jax.data.prepare.prompts import PromptsUnavailableError, Voice, fetch_prompts
from cmgan_jax.data.prepare.synthetic_noise import Kind, make_noise
from cmgan_jax.data.prepare.synthetic_speech import make_speakers, synthesise
from cmgan_jax.errors import UserError
from cmgan_jax.system import temporaries
from cmgan_jax.system.outputs import settle

SAMPLE_RATE = 16_000
RECORDED = "demo"
SYNTHESISED = "demo-synthetic"
COPYRIGHT = "COPYRIGHT"

_SEED = 2022
_VALIDATION_SEED = 10_000  # added to noise seeds, so that validation noise differs from training noise
# Chosen by the mean wide-band PESQ of the noisy files: 1.65 (recorded speech) and 1.61 (synthesised); of the first 16
# files 1.74 and 1.66. These are high enough for a small model to have something to raise.
_DEAL_SEED = 13
_NOISE_LEVEL = 0.1
_PEAK = 0.99
_MEGABYTES = 250  # disk space for the finished corpus, its copy before the rename, the packages and their contents


@dataclass(frozen=True)
class DemoPlan:
    """The amounts of each kind of data in the corpus.

    Most noise is low-frequency, as in real life; white and pink noise at these ratios leave next to no PESQ.
    """

    noise: Mapping[Kind, int] = field(
        default_factory=lambda: {
            "white": 2,
            "pink": 3,
            "brown": 5,
            "rumble": 5,
            "modulated": 5,
            "hum": 4,
            "babble": 3,
        }
    )
    """Number of noise files of each kind."""
    noise_seconds: float = 15.0
    """Length of a noise file in seconds."""
    validation: Mapping[Kind, int] = field(
        default_factory=lambda: {
            "white": 1,
            "pink": 1,
            "brown": 5,
            "rumble": 7,
            "modulated": 5,
            "hum": 4,
            "babble": 1,
        }
    )
    """Number of held-out mixtures with each kind of noise."""
    validation_seconds: tuple[float, float] = (2.0, 4.0)
    """Shortest and longest held-out utterance in seconds."""
    snr: tuple[float, float] = (-2.5, 17.5)
    """Lowest and highest signal-to-noise ratio of the held-out mixtures, in dB; ratios are evenly spread."""
    prompts: int = 300
    """Maximum number of recorded training utterances per speaker."""
    speakers: int = 6
    """Number of voices in the synthesised corpus."""
    utterances: int = 36
    """Synthesised utterances per voice, held-out ones included."""


def prepare_demo(
    out: Path,
    *,
    synthetic: bool = False,
    plan: DemoPlan | None = None,
    progress: Callable[[str], None] = print,
) -> Path:
    """Make the built-in corpus atomically; return at once if it already exists.

    Args:
        out: folder to make. The result of an earlier call is kept if it is complete, and made again if it is not.
        synthetic: synthesise the speech, without trying to fetch recordings.
        plan: the amounts of data; smaller ones are for tests.
        progress: called with lines that tell what is done.

    Returns:
        `out`.

    Raises:
        UserError: `out` holds other data, or the disk has too little space.
    """
    plan = plan or DemoPlan()
    if _is_whole(out, synthetic):
        return out
    _check_space(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    # The working folder is a sibling, so that the rename stays within one file system.
    with temporaries.folder(out.parent) as place:
        work, new = place / "work", place / "new"
        work.mkdir()
        corpus, voices = _voices(work, synthetic, plan, progress)
        _fill(new, corpus, voices, plan, progress)
        if out.exists():
            os.rename(out, place / "old")
        settle(new, out)
    return out


def _is_whole(out: Path, synthetic: bool) -> bool:
    """Whether `out` is already complete; raises an error for a folder that this program must not replace."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise UserError(f"{out}: a file is in the way; choose another --out")
    if not any(out.iterdir()):
        return False
    found = manifest.read(out)
    if found is None or found.corpus not in (RECORDED, SYNTHESISED):
        raise UserError(f"{out}: not empty, and not made by `prepare_data demo`; choose another --out")
    whole = not (synthetic and found.corpus == RECORDED) and not manifest.differences(out, found.files)
    if not whole:  # It is going to be replaced.
        folder.refuse_foreign(out, found.corpus, {entry.path for entry in found.files}, (COPYRIGHT,))
    return whole


def _check_space(out: Path) -> None:
    place = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free / 1e6
    if free < _MEGABYTES:
        raise UserError(f"{place}: {free:.0f} MB free, {_MEGABYTES} needed; free some or choose another --out")


def _voices(
    work: Path, synthetic: bool, plan: DemoPlan, progress: Callable[[str], None]
) -> tuple[str, tuple[Voice, ...]]:
    """Fetch recorded voices if possible; synthesise them otherwise."""
    reason = "as asked for"
    if not synthetic:
        progress("fetching recorded prompts (Debian's asterisk-core-sounds-{en,it}-g722, 21 MB)")
        try:
            return RECORDED, fetch_prompts(work)
        except PromptsUnavailableError as error:
            reason = f"no recorded prompts: {error}"
    progress(f"demo corpus: synthesised speech ({reason})")
    jobs = [(speaker, index) for speaker in make_speakers(plan.speakers) for index in range(plan.utterances)]
    low, high = plan.validation_seconds
    lengths = np.random.default_rng(_SEED).uniform(low, high, len(jobs))
    with ThreadPoolExecutor() as pool:
        waves = list(pool.map(lambda job, length: synthesise(length, *job), jobs, lengths))
    utterances: dict[str, dict[str, np.ndarray]] = {}
    for (speaker, index), wave in zip(jobs, waves, strict=True):
        utterances.setdefault(speaker.name, {})[f"u{index:03d}"] = wave
    made = "speech and validation files: synthesised by this project, no rights reserved (CC0 1.0)\n"
    return SYNTHESISED, tuple(Voice(name, waves, made) for name, waves in utterances.items())


def _fill(root: Path, corpus: str, voices: tuple[Voice, ...], plan: DemoPlan, progress: Callable[[str], None]) -> None:
    """Write the whole corpus into a new folder, the manifest last."""
    count = sum(plan.validation.values())
    speech: dict[str, np.ndarray] = {}
    held_out: list[tuple[str, np.ndarray]] = []
    for index, voice in enumerate(voices):
        share = count // len(voices) + (index < count % len(voices))
        trained, chosen = _split(voice, share, plan)
        speech |= {f"speech/{voice.speaker}/{name}.flac": voice.utterances[name] for name in trained}
        held_out += [(f"{voice.speaker}_{name}", voice.utterances[name]) for name in chosen]
    waves, details = _mixtures(held_out, plan)
    waves |= speech | _noise(list(speech.values()), plan)

    progress(f"writing {len(waves)} files")

    def write(item: tuple[str, np.ndarray]) -> manifest.ManifestEntry:
        audio.write(root / item[0], manifest.to_pcm16(item[1]), SAMPLE_RATE)
        return manifest.describe(root / item[0], root)

    with ThreadPoolExecutor() as pool:
        entries = list(pool.map(write, waves.items()))
    notices = sorted({voice.copyright for voice in voices})
    notices.append("noise: generated by this project, no rights reserved (CC0 1.0); babble is made of speech/*\n")
    (root / COPYRIGHT).write_text(f"\n{'-' * 70}\n\n".join(notices), encoding="utf-8")
    source = {"speech": [voice.speaker for voice in voices], "seed": _SEED}
    whole = manifest.build(corpus, entries, source, details)
    manifest.write(root, whole)
    totals = ", ".join(f"{name} {total['files']}" for name, total in whole.totals().items())
    progress(f"{whole.corpus} corpus {whole.fingerprint[:12]}: {totals} files")


def _split(voice: Voice, share: int, plan: DemoPlan) -> tuple[list[str], list[str]]:
    """Return the names of a voice's training utterances and of the held-out ones, which are disjoint."""
    names = sorted(voice.utterances)
    rng = np.random.default_rng((_SEED, *voice.speaker.encode()))
    rng.shuffle(names)
    low, high = (seconds * SAMPLE_RATE for seconds in plan.validation_seconds)
    chosen = [name for name in names if low <= len(voice.utterances[name]) <= high][:share]
    if len(chosen) < share or len(names) == share:
        raise UserError(
            f"speaker {voice.speaker}: {len(names)} utterances, {len(chosen)} of {share} to hold out last "
            f"{plan.validation_seconds[0]} to {plan.validation_seconds[1]} s; use --synthetic instead"
        )
    trained = [name for name in names if name not in set(chosen)]
    return sorted(trained[: plan.prompts]), chosen


def _noise(speech: list[np.ndarray], plan: DemoPlan) -> dict[str, np.ndarray]:
    """Make the training noise, by file path."""
    jobs = [(kind, index) for kind, count in plan.noise.items() for index in range(count)]

    def make(job: tuple[Kind, int]) -> np.ndarray:
        wave = make_noise(job[0], plan.noise_seconds, _SEED + job[1], speech)
        return wave * min(_NOISE_LEVEL, _PEAK / float(np.abs(wave).max()))

    with ThreadPoolExecutor() as pool:
        waves = list(pool.map(make, jobs))
    return {f"noise/{kind}_{index + 1:02d}.flac": wave for (kind, index), wave in zip(jobs, waves, strict=True)}


def _mixtures(
    held_out: list[tuple[str, np.ndarray]], plan: DemoPlan
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, str | float]]]:
    """Make the held-out mixtures by path, and the noise and ratio of each.

    Speakers, kinds of noise and ratios are assigned at random, so the first few files are as varied as the whole set.
    """
    rng = np.random.default_rng(_DEAL_SEED)
    kinds: list[Kind] = [kind for kind, count in plan.validation.items() for _ in range(count)]
    ratios = np.linspace(*plan.snr, len(kinds))
    deals = zip(*(rng.permutation(len(kinds)) for _ in range(3)), strict=True)
    waves: dict[str, np.ndarray] = {}
    details: dict[str, dict[str, str | float]] = {}
    for number, (utterance, which, rank) in enumerate(deals):
        (name, clean), kind, ratio = held_out[utterance], kinds[which], float(ratios[rank])
        others = [wave for other, wave in held_out if other != name]
        noise = make_noise(kind, len(clean) / SAMPLE_RATE, _VALIDATION_SEED + number, others)
        noisy = clean + noise * np.sqrt(np.mean(clean**2)) * 10 ** (-ratio / 20)
        scale = min(1.0, _PEAK / float(np.abs(noisy).max()))
        path = f"{number + 1:02d}_{name}_{kind}.flac"
        waves[f"validation/clean/{path}"] = clean * scale
        waves[f"validation/noisy/{path}"] = noisy * scale
        details[f"validation/noisy/{path}"] = {"noise": kind, "snr_db": round(ratio, 2)}
    return waves, details
