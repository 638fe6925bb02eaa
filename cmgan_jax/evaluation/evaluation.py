"""Evaluation of folders: matching of files by name, scores of each system, and groups of files.

A *system* is the source of a version of the files: `noisy` (unprocessed), `enhanced`, or any other folder. Every system
is scored against `clean`, file by file. This module does not import jax.
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
"""The reference, and the two systems with a special role."""
SNR_EDGES = (0, 5, 10, 15)
"""Boundaries of the groups by input SNR in dB; they separate VoiceBank+DEMAND's 2.5, 7.5, 12.5 and 17.5 dB."""

_SPEAKER = re.compile(r"^(p\d+)_")


@dataclass(frozen=True)
class Case:
    """The versions of one recording.

    Attributes:
        name: path of the file below each folder, without the suffix.
        paths: its file by system, including `clean`.
        problems: the reason, for each system without a file.
        notes: other remarks on a system's file.
    """

    name: str
    paths: Mapping[str, Path]
    problems: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def speaker(self) -> str | None:
        """The p### before the first underscore of the file's name; None if there is none."""
        match = _SPEAKER.match(self.name.rpartition("/")[2])
        return match.group(1) if match else None


@dataclass(frozen=True)
class Group:
    """A group of files with a common property.

    Attributes:
        kind: `input_snr` or `speaker`.
        label: the common property, as shown to the user.
        summaries: the summary of each system.
        gain: summary of `enhanced` minus `noisy`, file by file; None without both.
    """

    kind: str
    label: str
    summaries: Mapping[str, Summary]
    gain: Summary | None


@dataclass(frozen=True)
class Evaluation:
    """Scores of every system for every file, with their summaries.

    Attributes:
        cases: the files, ordered by name.
        scores: scores of each system, one for each case, in the order of `cases`.
        whole: the group of all files.
        groups: groups by input SNR and by speaker, if there are at least two.
    """

    cases: tuple[Case, ...]
    scores: Mapping[str, tuple[FileScores, ...]]
    whole: Group
    groups: tuple[Group, ...]

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the systems, in the order of tables."""
        return tuple(self.scores)

    @property
    def complete(self) -> bool:
        """Whether every file of every system has every measure."""
        return all(s.scored == s.total for s in self.whole.summaries.values())


def match_files(folders: Mapping[str, Path], made: str | None = None) -> tuple[Case, ...]:
    """Match the versions of each recording by name; suffixes and the Unicode form of accents may differ.

    If a name has one lossless file and lossy copies in a folder, the lossless one is used, and the copies are noted. A
    file with several names through links counts as one recording for each name.

    Args:
        folders: the folder of each system, and of `clean`.
        made: a system without a folder, because its files will be made from the noisy ones.

    Returns:
        Every name in the clean folder or to be scored, in order, with what is missing. The files to be scored are the
        enhanced ones, or the noisy ones if `made` is given; other folders may hold more files.

    Raises:
        UserError: a folder is missing, holds no audio or has an unreadable folder in it, or the folders have no name in
            common.
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
    """Return a line for each folder with files that are not recordings, with their number by suffix."""
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
    """Score every system on every file, in parallel.

    Args:
        cases: the files to score.
        systems: the systems to score, in the order of tables.
        pool: processes that compute PESQ, at 16 kHz.
        make: enhances a case's noisy file, and returns the file it wrote; called in this thread, when scoring needs it.
            If it raises a `UserError`, that is the reason for this file's missing score.
        published_scale: see `scores.score_pair`.
        narrow: see `scores.score_pair`.
        progress: called with the number of finished scores, and the total.

    Returns:
        The scores and their summaries.

    Raises:
        UserError: PESQ processes can no longer be started.
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
        scores: scores of each system, one for each case, in the order of `cases`.
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
    """Return a noisy file's measured signal-to-noise ratio in dB; None if it has none.

    SI-SDR is used, so that a noisy file at another level than the clean one still gets the SNR of its mixture. For a
    gain of 1 and noise independent of the speech, the two are equal.
    """
    return noisy.values.get("si_sdr")


def gains(noisy: Sequence[FileScores], enhanced: Sequence[FileScores]) -> list[FileScores]:
    """Return enhanced minus noisy, file by file, for each measure that both have."""
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
