"""The page of results, made from the records of `experiments.rivals`: no measured figure in it is typed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmgan_jax.evaluation.evaluation import NOISY
from cmgan_jax.evaluation.scores import FileScores
from cmgan_jax.evaluation.summary import summarise
from cmgan_jax.evaluation.tables import LABELS, MAIN, number
from experiments.rivals_record import OURS

BAND = 5
"""Width in dB of the bands of input SNR."""
ENDS = (-5, 25)
"""Lowest and highest input SNR in dB of a band; files beyond have a band of their own."""
GAINED = ("pesq", "stoi", "si_sdr")
"""Measures whose gain over the noisy files is shown with its interval."""

_SHOWN = 16
"""Digits of a digest that people see."""

File = Mapping[str, Any]
"""An entry of a record's `files`."""

TITLES = {"voicebank": "Pairs of VoiceBank+DEMAND", "held-out": "Held-out mixtures of our own"}
"""Headings of the sets that are known, in their order."""
NAMES = {NOISY: "noisy", OURS: "cmgan-jax"}
"""How tables call systems, where not as records do."""

_TOP = """\
# Results beside other systems

This page compares systems that remove noise from speech and that anybody can install. All of them enhanced the same
files at 16 kHz, and one program, `cmgan evaluate`, scored them. The page is generated from the records in
`results/rivals/`, which hold the scores of every file.

noisereduce is spectral gating without a neural network, here with its default settings. RNNoise and DeepFilterNet3 are
neural networks that work at 48 kHz: the files are resampled for them (soxr), and what comes out is resampled to 16 kHz.
Their delays are taken out to the sample; after every run a cross-correlation checks that none is left. The files hold
nothing above 8 kHz, where both listen too, so they may do better on recordings at 48 kHz. DeepFilterNet3 was trained on
several hundred hours of speech.
"""
_WITHOUT_OURS = """\
The records hold no scores of this project's own model yet.
"""
_ABOUT = {
    "voicebank": """\
These are {files} of the 824 pairs of the test set of VoiceBank+DEMAND, all of the speaker p232. No pair of
VoiceBank+DEMAND trains the model of this project. So few files say little about small differences, as the intervals
show.
""",
    "held-out": """\
`experiments.held_out_set` makes these mixtures of the speakers and the recordings of noise that
`experiments.small_model` holds out, as many in each band of input SNR from −5 to 25 dB. None of them trains, though
mixtures of the same speakers and noises decide which epoch of this project's model is kept. Its training has heard
other recordings from the same collections, which the other systems may not have, so the set is nearer to its training
than to theirs.
""",
}
_BANDS = {
    "mixed": "By input SNR in dB, as it was mixed (means; the number of files in brackets):",
    "measured": "By input SNR in dB, measured as the noisy file's SI-SDR (means; the number of files in brackets):",
}
_SPEED = """\
## Speed

Seconds that a second of audio takes, and processor seconds of all cores, on {cores} cores ({processor}), of the set
`{set}`. Loading models is not counted. Reading and writing files counts for this project's model alone.
"""
_NO_SPEED = """\
## Speed

The real-time factors have not been measured on a quiet machine yet; `--speed` below records them.
"""
_REPEAT = """\
## Repeat it

```
python -m experiments.held_out_set --corpora DIR DIR --out runs/held-out    # in the order of the training
python -m experiments.rivals run --name held-out --data runs/held-out --speed results/rivals/speed.json
python -m experiments.rivals run --name voicebank --data DIR
python -m experiments.rivals report
```

The first call of `run` makes an environment of its own for the other systems, which `pip` downloads.
"""
_VERSIONS = "Versions: {versions}."
_IDENTITY = """\
It was made with seed {seed}; the SHA-256 of its samples, which `set.json` in its folder holds, begins with `{samples}`.
"""


def page(records: Mapping[str, Mapping[str, Any]], speed: Mapping[str, Any] | None) -> str:
    """Make the page, in Markdown.

    Args:
        records: by set, as `rivals_record.read_all` gives them.
        speed: the record of real-time factors; None: they have not been measured.
    """
    parts = [_TOP]
    if not any(OURS in record["systems"] for record in records.values()):
        parts.append(_WITHOUT_OURS)
    parts.append(f"{_VERSIONS.format(versions=_versions(records))}\n")
    order = [name for name in TITLES if name in records] + sorted(set(records) - set(TITLES))
    for name in order:
        parts += _section(name, records[name])
    if speed:
        parts += [_SPEED.format(set=speed["set"], **speed["machine"]), _lines(speed_table(speed))]
    else:
        parts.append(_NO_SPEED)
    return "\n".join([*parts, _REPEAT])


def _versions(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Package and version of each system, as the records have them."""
    found = (of for record in records.values() for of in record["systems"].values())
    return ", ".join(dict.fromkeys(f"`{of['package']}` {of['version']}" for of in found))


def _section(name: str, record: Mapping[str, Any]) -> list[str]:
    files = record["files"]
    count = f"{len(files)} files; means, CSIG, CBAK and COVL at {record['scale']} scale:\n"
    parts = [f"## {TITLES.get(name, name)}\n", *([_ABOUT[name].format(files=len(files))] if name in _ABOUT else [])]
    if about := record["about"]:
        parts.append(_IDENTITY.format(seed=about["seed"], samples=about["samples"][:_SHOWN]))
    parts.append(count)
    parts.append(_lines(scores_table(record)))
    if gaps := _missing(record):
        parts.append(_lines(gaps))
    parts += [
        "Gained over the noisy files, with the 95 % bootstrap interval of the mean:\n",
        _lines(gain_table(record)),
    ]
    return [*parts, f"{_BANDS[record['snr']]}\n", _lines(band_table(record))]


def _lines(lines: Sequence[str]) -> str:
    return "\n".join([*lines, ""])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _systems(record: Mapping[str, Any]) -> list[str]:
    return [NOISY, *record["systems"]]


def _heads() -> list[str]:
    return [f"{LABELS[m].label}{', ' + LABELS[m].unit if LABELS[m].unit else ''}" for m in MAIN]


def _mean(files: Sequence[File], system: str, measure: str) -> str:
    values = [file["scores"][system][measure] for file in files]
    known = [value for value in values if value is not None]
    return number(measure, float(np.mean(known)) if known else None)


def scores_table(record: Mapping[str, Any]) -> list[str]:
    """A line of means for each system, over the files that have the measure."""
    rows = [
        [NAMES.get(system, system), *(_mean(record["files"], system, m) for m in MAIN)] for system in _systems(record)
    ]
    return _table(["", *_heads()], rows)


def gain_table(record: Mapping[str, Any]) -> list[str]:
    """What each system gains over the noisy files, file by file, with the interval of the mean."""
    rows = []
    for system in record["systems"]:
        cells = []
        for measure in GAINED:
            of = summarise(_gains(record["files"], system, measure)).statistics.get(measure)
            text = "–" if of is None else number(measure, of.mean, sign=True)
            if of is not None and of.low is not None:
                text += f" [{number(measure, of.low, sign=True)}, {number(measure, of.high, sign=True)}]"
            cells.append(text)
        rows.append([NAMES.get(system, system), *cells])
    heads = [head for measure, head in zip(MAIN, _heads(), strict=True) if measure in GAINED]
    return _table(["", *heads], rows)


def _gains(files: Sequence[File], system: str, measure: str) -> list[FileScores]:
    """The differences to the noisy files, of those that have both scores."""
    pairs = [(file["name"], file["scores"][system][measure], file["scores"][NOISY][measure]) for file in files]
    return [
        FileScores(name, {measure: of - noisy}) for name, of, noisy in pairs if of is not None and noisy is not None
    ]


def band_of(snr: float) -> tuple[float, float]:
    """The band of an input SNR in dB: its lower end, which belongs to it, and its upper one; infinite beyond `ENDS`."""
    low, high = ENDS
    if snr < low:
        return -math.inf, low
    if snr > high:
        return high, math.inf
    begin = min(BAND * math.floor(snr / BAND), high - BAND)
    return begin, begin + BAND


def band_table(record: Mapping[str, Any]) -> list[str]:
    """A line of means for each band of input SNR and system."""
    bands: dict[tuple[float, float], list[File]] = {}
    for file in record["files"]:
        if file["snr"] is not None:
            bands.setdefault(band_of(file["snr"]), []).append(file)
    rows = []
    for band in sorted(bands):
        for system in _systems(record):
            label = f"{_band(*band)} ({len(bands[band])})" if system == NOISY else ""
            rows.append([label, NAMES.get(system, system), *(_mean(bands[band], system, m) for m in MAIN)])
    return _table(["input SNR", "", *_heads()], rows)


def _band(low: float, high: float) -> str:
    if math.isinf(low):
        return f"below {high:.0f}"
    return f"above {low:.0f}" if math.isinf(high) else f"{low:.0f} to {high:.0f}"


def _missing(record: Mapping[str, Any]) -> list[str]:
    """A line for each file and system without a score, with the reason."""
    lines = []
    for file in record["files"]:
        for system, reasons in file.get("reasons", {}).items():
            measures = ", ".join(LABELS[measure].label for measure in reasons if measure in MAIN)
            why = next(iter(reasons.values()))
            lines.append(f"- {NAMES.get(system, system)}, `{file['name']}`: no {measures}: {why}")
    return lines


def speed_table(speed: Mapping[str, Any]) -> list[str]:
    """The real-time factor of each system, and the processor seconds that a second of audio takes."""
    rows = [
        [NAMES.get(name, name), f"{of['wall'] / of['audio']:.3f}", f"{of['processor'] / of['audio']:.3f}"]
        for name, of in speed["systems"].items()
    ]
    return _table(["", "real-time factor", "processor s for 1 s"], rows)
