"""Published results on VoiceBank+DEMAND, and the check of whether an evaluation uses that test set.

Published results are comparable with an evaluation on the same files; with one on a part of them, or on other mixtures
of the same speech, they would mislead. The set's files exist in several conversions from 48 kHz, so a hash of their
bytes cannot identify them. Properties that every conversion keeps are compared instead:

1. the names: 824 files, all of p232 and p257, the two test speakers, both of which occur;
2. the lengths of 14 known files, to 10 ms, clean and noisy;
3. the noise: wide-band PESQ of those 14 noisy files, to 0.05, which differs for other noise or another noise level;
4. every noisy file was scored, and their mean PESQ is the published 1.97, to 0.02.

References:
    C. Valentini-Botinhao et al., "Investigating RNN-based speech enhancement methods for noise-robust
    text-to-speech", SSW 9, 2016: the set. Names and figures of the systems: their papers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cmgan_jax.data import audio
from cmgan_jax.evaluation.evaluation import CLEAN, NOISY, Evaluation

FILES = 824
"""Number of files in the test set."""
METRICS = ("pesq", "csig", "cbak", "covl", "ssnr", "stoi")
"""The metrics reported in the literature, in the order of `PUBLISHED`."""
NOTE = (
    "As printed in the papers. Those of CMGAN and of models built on its code take CSIG, CBAK and COVL from audio in "
    "[-1, 1] (see --published-scale), which makes them higher than at 16-bit scale."
)

_LENGTH_TOLERANCE = 0.010
_PESQ_TOLERANCE = 0.05
_NOISY_PESQ, _NOISY_TOLERANCE = 1.97, 0.02
_NAME = re.compile(r"(p232|p257)_\d{3}")
_RATE = 16_000


@dataclass(frozen=True)
class PublishedRow:
    """One system of the literature.

    Attributes:
        name: its name in the paper.
        year: the paper's year.
        values: scores in the order of `METRICS`; None where the paper has none.
    """

    name: str
    year: int | None
    values: tuple[float | None, ...]


PUBLISHED = (
    PublishedRow("noisy", None, (1.97, 3.35, 2.44, 2.63, 1.68, 0.91)),
    PublishedRow("SEGAN", 2017, (2.16, 3.48, 2.94, 2.80, 7.73, None)),
    PublishedRow("MetricGAN+", 2021, (3.15, 4.14, 3.16, 3.64, None, None)),
    PublishedRow("DPT-FSNet", 2022, (3.33, 4.58, 3.72, 4.00, None, 0.96)),
    PublishedRow("CMGAN", 2022, (3.41, 4.63, 3.94, 4.12, 11.10, 0.96)),
    PublishedRow("MP-SENet", 2023, (3.50, 4.73, 3.95, 4.22, None, 0.96)),
)

# Number of samples at 16 kHz, and wide-band PESQ of the noisy file, from its authors' logs.
KNOWN = {
    "p232_003": (114_958, 2.812),
    "p232_005": (99_946, 1.332),
    "p232_006": (81_656, 2.206),
    "p232_011": (104_611, 2.733),
    "p232_014": (73_870, 1.271),
    "p232_015": (85_119, 3.634),
    "p232_016": (89_110, 3.367),
    "p232_019": (107_769, 2.199),
    "p232_021": (136_152, 2.595),
    "p232_022": (92_704, 1.647),
    "p232_023": (156_302, 1.309),
    "p232_024": (88_327, 3.805),
    "p232_052": (35_184, 1.155),
    "p232_170": (33_483, 1.289),
}


def is_voicebank_test(evaluation: Evaluation) -> bool:
    """Whether the evaluation is on the whole VoiceBank+DEMAND test set, by the rules above.

    Args:
        evaluation: with or without noisy files; without them the set cannot be identified, and the answer is no.
    """
    if len(evaluation.cases) != FILES or NOISY not in evaluation.scores:
        return False
    noisy = {scores.name: scores.values.get("pesq") for scores in evaluation.scores[NOISY]}
    if not all(known in noisy for known in KNOWN):
        return False
    lengths = {
        (case.name, side): _seconds(case.paths[side])
        for case in evaluation.cases
        if case.name in KNOWN
        for side in (CLEAN, NOISY)
        if side in case.paths
    }
    return matches(noisy, lengths)


def matches(noisy: Mapping[str, float | None], seconds: Mapping[tuple[str, str], float]) -> bool:
    """Apply the rules to plain numbers.

    Args:
        noisy: wide-band PESQ of each noisy file; None if it is missing.
        seconds: length of the known files in seconds, by name and side (`clean`, `noisy`).
    """
    names = [_NAME.fullmatch(name) for name in noisy]
    if len(names) != FILES or {name and name[1] for name in names} != {"p232", "p257"}:
        return False
    scores = [score for score in noisy.values() if score is not None]
    if len(scores) != FILES or abs(sum(scores) / FILES - _NOISY_PESQ) > _NOISY_TOLERANCE:
        return False
    for name, (samples, pesq) in KNOWN.items():
        found = noisy.get(name)
        if found is None or abs(found - pesq) > _PESQ_TOLERANCE:
            return False
        for side in (CLEAN, NOISY):
            if abs(seconds.get((name, side), 0.0) - samples / _RATE) > _LENGTH_TOLERANCE:
                return False
    return True


def _seconds(path: Path) -> float:
    info = audio.probe(path)
    return info.frames / info.sample_rate
