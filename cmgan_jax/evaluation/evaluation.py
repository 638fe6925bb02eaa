"""Evaluation of whole folders: which files belong together, the scores of each system, and groups of files.

A *system* is what made a version of the files: `noisy` (nothing did), `enhanced`, or any other folder. Every system
is scored against `clean`, file by file. No jax here.
"""

import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from cmgan_jax.data.folders import NAMED, RECORDINGS, by_name, count_text, files_below, lossless, walk
from cmgan_jax.errors import UserError, printable
from cmgan_jax.evaluation.scores import METRICS, NARROW, FilePair, FileScores, score_files
from cmgan_jax.evaluation.summary import Summary, summarise
from cmgan_jax.metrics.scoring_pool import ScorePool

CLEAN, NOISY, ENHANCED = "clean", "noisy", "enhanced"
"""The reference, and the two systems that have a place of their own."""
SNR_EDGES = (0, 5, 10, 15)
"""Input SNRs in dB between which files are grouped: VoiceBank+DEMAND's 2.5, 7.5, 12.5 and 17.5 dB fall apart."""

_SPEAKER = re.compile(r"^(p\d+)_")


@dataclass(frozen=True)
class Case:
    """The versions of one recording.

    Attributes:
        name: path below each folder, without the suffix.
        paths: its file by system, and under `clean`.
        problems: why there is none, for those that have none.
        notes: what else is to be known of a system's file.
    """

    name: str
    paths: Mapping[str, Path]
    problems: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def speaker(self) -> str | None:
        """The p### before the first underscore of the file's name, None where there is none."""
        match = _SPEAKER.match(self.name.rpartition("/")[2])
        return match.group(1) if match else None


@dataclass(frozen=True)
class Group:
    """Files that have something in common.

    Attributes:
        kind: `input_snr` or `speaker`.
        label: what they have in common, for people.
        summaries: by system.
        gain: of `enhanced` over `noisy`, file by file; None without both.
    """

    kind: str
    label: str
    summaries: Mapping[str, Summary]
    gain: Summary | None


@dataclass(frozen=True)
class Evaluation:
    """Scores of every system for every file, and what they say.

    Attributes:
        cases: the files, by name.
        scores: of each system, one of each case, in their order.
        whole: all files as a group.
        groups: by input SNR and by speaker, where there are two or more.
    """

    cases: tuple[Case, ...]
    scores: Mapping[str, tuple[FileScores, ...]]
    whole: Group
    groups: tuple[Group, ...]

    @property
    def systems(self) -> tuple[str, ...]:
        """Their names, in the order of tables."""
        return tuple(self.scores)

    @property
    def complete(self) -> bool:
        """Whether every file of every system has every measure."""
        return all(s.scored == s.total for s in self.whole.summaries.values())


def match_files(folders: Mapping[str, Path], made: str | None = None) -> tuple[Case, ...]:
    """Find the versions of each recording by name; suffixes may differ, and so may the spelling of accents.

    Of one name in a folder the only lossless file goes before compressed copies, which are noted. A file that links
    give several names is one recording under each of them.

    Args:
        folders: by system, and `clean`.
        made: a system that has no folder yet, because its files will be made of the noisy ones.

    Returns:
        Every name that is clean or to be scored, in order, with what is missing. To be scored are the enhanced
        files, or the noisy ones where `made` is named; folders beside these may hold more.

    Raises:
        UserError: a folder is missing, holds no audio or has a folder in it that cannot be read, or the folders
            have no name in common.
    """
    found = {system: _audio_by_name(system, folder) for system, folder in folders.items()}
    common = set.intersection(*(set(names) for names in found.values()))
    if not common:
        examples = "; ".join(
            f"{folders[system]}: {', '.join(map(printable, list(names)[:2]))}" for system, names in found.items()
        )
        raise UserError(
            f"the folders have no file name in common ({examples}): files belong together by name, whatever the suffix"
        )
    cases = []
    for name in sorted(set(found[CLEAN]) | set(found[NOISY if made else ENHANCED])):
        paths: dict[str, Path] = {}
        problems: dict[str, str] = {}
        notes: dict[str, str] = {}
        for system, names in found.items():
            everything = names.get(name, [])
            here = list(lossless(everything)) or everything
            if len(here) == 1:
                paths[system] = here[0]
                if copies := [printable(path.name) for path in everything if path != here[0]]:
                    notes[system] = f"{', '.join(copies)} beside it {'is' if len(copies) == 1 else 'are'} left out"
            elif here:
                problems[system] = (
                    f"{len(here)} {system} files of that name: {', '.join(printable(path.name) for path in here)}"
                )
            else:
                problems[system] = f"no {system} file of that name in {folders[system]}"
        if made and NOISY in problems:
            problems[made] = problems[NOISY]
        cases.append(Case(name, paths, problems, notes))
    return tuple(cases)


def passed_over(folders: Mapping[str, Path]) -> tuple[str, ...]:
    """A line for each folder that holds files which are no recordings, with their number by suffix."""
    found = {system: walk(folder).passed_over for system, folder in folders.items() if folder.is_dir()}
    return tuple(f"{system}: {count_text(counts)} passed over" for system, counts in found.items() if counts)


def evaluate(
    cases: Sequence[Case],
    systems: Sequence[str],
    pool: ScorePool,
    *,
    make: Callable[[Case], Path] | None = None,
    published_scale: bool = False,
    narrow: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score every system on every file, side by side.

    Args:
        cases: the files.
        systems: which to score, in the order of tables.
        pool: for PESQ, at 16 kHz.
        make: enhances a case's noisy file, and gives the file it wrote; called in this thread, as scoring asks for
            it. A `UserError` of it is the reason that this file has no score.
        published_scale: see `scores.score_pair`.
        narrow: see `scores.score_pair`.
        progress: receives how many scores are there, and of how many.

    Returns:
        The scores and their summaries.

    Raises:
        UserError: no PESQ process can be started any more.
    """
    wanted = (*METRICS, NARROW) if narrow else METRICS
    found: dict[tuple[str, str], FileScores] = {}
    asked: deque[tuple[str, str]] = deque()
    finished: dict[str, Case] = {case.name: case for case in cases}
    total = len(cases) * len(systems)

    def pairs() -> Iterator[FilePair]:
        for case in cases:
            for system in systems:
                key = (case.name, system)
                reason = case.problems.get(CLEAN) or case.problems.get(system)
                if reason is None and system not in case.paths and make is not None:
                    try:
                        case = replace(case, paths={**case.paths, system: make(case)})
                        finished[case.name] = case
                    except UserError as error:
                        reason = str(error)
                if reason is not None:
                    found[key] = FileScores(case.name, {}, dict.fromkeys(wanted, reason))
                    continue
                asked.append(key)
                yield FilePair(case.name, case.paths[CLEAN], case.paths[system])

    progress(0, total)
    for scores in score_files(pairs(), pool, published_scale=published_scale, narrow=narrow):
        name, system = key = asked.popleft()
        noted = [f"{of}: {text}" for of, text in finished[name].notes.items() if of in (CLEAN, system)]
        found[key] = replace(scores, notes=(*noted, *scores.notes))
        progress(len(found), total)
    progress(total, total)
    return assemble(
        [finished[case.name] for case in cases],
        {system: [found[case.name, system] for case in cases] for system in systems},
    )


def assemble(cases: Sequence[Case], scores: Mapping[str, Sequence[FileScores]]) -> Evaluation:
    """Summarise the scores of each system over all files and over groups of them.

    Args:
        cases: the files.
        scores: of each system, one of each case, in their order.
    """
    kept = {system: tuple(of) for system, of in scores.items()}
    members: dict[tuple[str, str], list[int]] = {}
    snrs = [input_snr(of) for of in kept.get(NOISY, ())]
    for low, label in _snr_ranges():
        inside = [i for i, snr in enumerate(snrs) if snr is not None and _snr_floor(snr) == low]
        if inside:
            members["input_snr", label] = inside
    for speaker in sorted({case.speaker for case in cases if case.speaker}):
        members["speaker", speaker] = [i for i, case in enumerate(cases) if case.speaker == speaker]
    kinds = [kind for kind, _ in members]
    groups = tuple(
        _group(kind, label, {system: [of[i] for i in inside] for system, of in kept.items()})
        for (kind, label), inside in members.items()
        if kinds.count(kind) > 1
    )
    return Evaluation(tuple(cases), kept, _group("all", "all files", kept), groups)


def input_snr(noisy: FileScores) -> float | None:
    """Signal-to-noise ratio in dB of a noisy file as it was measured, None where it has none.

    It is the SI-SDR, so that a noisy file that was recorded or stored at another level than the clean one has the
    SNR of its mixture. For noise that is independent of the speech and a gain of 1 the two are the same.
    """
    return noisy.values.get("si_sdr")


def gains(noisy: Sequence[FileScores], enhanced: Sequence[FileScores]) -> list[FileScores]:
    """Enhanced minus noisy, file by file, of each measure that both have."""
    return [
        FileScores(n.name, {key: e.values[key] - n.values[key] for key in e.values if key in n.values})
        for n, e in zip(noisy, enhanced, strict=True)
    ]


def _group(kind: str, label: str, scores: Mapping[str, Sequence[FileScores]]) -> Group:
    both = NOISY in scores and ENHANCED in scores
    gain = summarise(gains(scores[NOISY], scores[ENHANCED])) if both else None
    return Group(kind, label, {system: summarise(of) for system, of in scores.items()}, gain)


def _snr_ranges() -> list[tuple[float, str]]:
    inner = [(low, f"{low} to {high} dB") for low, high in pairwise(SNR_EDGES)]
    return [(-math.inf, f"below {SNR_EDGES[0]} dB"), *inner, (SNR_EDGES[-1], f"{SNR_EDGES[-1]} dB and more")]


def _snr_floor(snr: float) -> float:
    return max((edge for edge in SNR_EDGES if edge <= snr), default=-math.inf)


def _audio_by_name(system: str, folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise UserError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; name the {system} files")
    names = by_name(folder, files_below(folder, NAMED))
    if not names:
        raise UserError(f"{folder} holds no audio ({' '.join(RECORDINGS)})")
    return names
