"""The listening report: an evaluation as one self-contained HTML page that works from disk.

The page is `page/index.html` with its style and script inlined, the numbers as JSON, and, for the worst files, audio
and spectrograms of every version. Audio is 16-bit WAV at 16 kHz, 43 kB per second when embedded: it has no artefacts of
its own that a listener could attribute to a system, all versions start at the same sample, and every browser plays it.
FLAC would take two thirds of that, but libsndfile writes it without a seek table, and Chromium 156 fails to seek near
its end. Spectrograms of a file share one decibel scale.

File names are passed to the page only as JSON, with every `<` escaped, and the script inserts them as text, so none of
them can become a tag. The page's security policy forbids all connections, and all scripts but its own.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from cmgan_jax.data import audio, manifest
from cmgan_jax.evaluation import published, tables
from cmgan_jax.evaluation.evaluation import CLEAN, ENHANCED, NOISY, Case, Evaluation, Group, input_snr
from cmgan_jax.evaluation.scores import LOWER_IS_BETTER, METRICS, NARROW, RATE
from cmgan_jax.evaluation.summary import Summary
from cmgan_jax.report import spectrogram

LONGEST_SECONDS = 60.0
"""Maximum seconds of a file in the page, from its start."""
RANKED_BY = "pesq"
"""The measure by which files are ranked from worst to best."""
SCRIPTS = ("tables.js", "player.js", "start.js")
"""Parts of the page's script, in order."""


@dataclass(frozen=True)
class Page:
    """A listening report.

    Attributes:
        html: the page as HTML.
        files: number of files in its table.
        with_audio: number of these with embedded audio.
    """

    html: str
    files: int
    with_audio: int

    def describe(self) -> str:
        """Describe its size, and how many files can be heard."""
        megabytes = len(self.html.encode()) / 1e6
        heard = "all" if self.with_audio == self.files else f"the worst {self.with_audio} of"
        return f"{megabytes:.1f} MB, with the audio of {heard} {self.files} files"


def build(evaluation: Evaluation, *, published_scale: bool, source: Mapping[str, Any], audio_files: int) -> Page:
    """Build the page.

    Args:
        evaluation: the results to show.
        published_scale: whether the published scale was used; see `scores.score_pair`.
        source: what was compared, and with which version; shown at the page's end.
        audio_files: number of files, the worst first, that get audio and spectrograms.

    Returns:
        The page.
    """
    order = worst_first(evaluation)
    media = {i: found for i in order[:audio_files] if (found := _media(evaluation.cases[i], evaluation.systems))}
    content = _content(evaluation, published_scale, source, order, set(media))
    blocks = [_block("data", content), *(_block(f"media-{i}", found) for i, found in media.items())]
    page = resources.files("cmgan_jax.evaluation") / "page"
    style, html = ((page / name).read_text(encoding="utf-8") for name in ("style.css", "index.html"))
    script = "\n".join((page / name).read_text(encoding="utf-8") for name in SCRIPTS)
    for name, text in {
        "%SCRIPT-HASH%": _hash(script),
        "%STYLE-HASH%": _hash(style),
        "%STYLE%": style,
        "%SCRIPT%": script,
        # The data are inserted last, so that nothing in them is taken for a placeholder.
        "%DATA%": "\n".join(blocks),
    }.items():
        html = html.replace(name, text)
    return Page(html, len(evaluation.cases), len(media))


def worst_first(evaluation: Evaluation) -> list[int]:
    """Return the files' indices: those without a score first, then by rising score; ties by name."""

    def key(i: int) -> tuple[float, str]:
        score = evaluation.scores[ENHANCED][i].values.get(RANKED_BY)
        return (-np.inf if score is None else score, evaluation.cases[i].name)

    return sorted(range(len(evaluation.cases)), key=key)


def _content(
    evaluation: Evaluation, published_scale: bool, source: Mapping[str, Any], order: list[int], heard: set[int]
) -> dict[str, Any]:
    measured = list(evaluation.whole.summaries[ENHANCED].statistics)
    return {
        "metrics": [
            asdict(tables.LABELS[name]) | {"key": name, "lower": name in LOWER_IS_BETTER}
            for name in (*METRICS, NARROW)
            if name in measured
        ],
        "systems": list(evaluation.systems),
        "counts": tables.counts(evaluation),
        "complete": evaluation.complete,
        "missing": tables.missing_lines(evaluation),
        "notes": tables.note_lines(evaluation),
        "scale": tables.scale_name(published_scale),
        "source": source,
        "whole": _group(evaluation.whole),
        "groups": [_group(group) for group in evaluation.groups],
        "ranked": RANKED_BY,
        "longest": LONGEST_SECONDS,
        "palette": spectrogram.ANCHORS,
        "range": spectrogram.RANGE_DB,
        "rate": RATE,
        "files": [_file(evaluation, i, i in heard) for i in order],
        "literature": _literature() if published.is_voicebank_test(evaluation) else None,
    }


def _group(group: Group) -> dict[str, Any]:
    def statistics(summary: Summary) -> dict[str, Any]:
        return {name: asdict(of) for name, of in summary.statistics.items()}

    return {
        "kind": group.kind,
        "label": group.label,
        "files": group.summaries[ENHANCED].total,
        "systems": {name: statistics(summary) for name, summary in group.summaries.items()},
        "gain": statistics(group.gain) if group.gain else None,
    }


def _file(evaluation: Evaluation, i: int, heard: bool) -> dict[str, Any]:
    scores = {system: evaluation.scores[system][i] for system in evaluation.systems}
    return {
        "name": evaluation.cases[i].name,
        "snr": input_snr(scores[NOISY]) if NOISY in scores else None,
        "scores": {system: of.values for system, of in scores.items()},
        "reasons": {system: list(dict.fromkeys(of.reasons.values())) for system, of in scores.items() if of.reasons},
        "notes": {system: list(of.notes) for system, of in scores.items() if of.notes},
        "media": f"media-{i}" if heard else None,
    }


def _literature() -> dict[str, Any]:
    return {
        "metrics": published.METRICS,
        "rows": [asdict(row) for row in published.PUBLISHED],
        "note": published.NOTE,
    }


def _media(case: Case, systems: tuple[str, ...]) -> dict[str, Any] | None:
    """Make audio and spectrograms of a file; None if no version of it can be read."""
    order = [name for name in (NOISY, ENHANCED, CLEAN) if name == CLEAN or name in systems]
    order += [name for name in systems if name not in order]
    signals = dict(_signals(case, order))
    if not signals:
        return None
    powers = {name: spectrogram.power(signal) for name, signal in signals.items()}
    # The clean file sets the scale, so that what a system adds is visible and does not darken the rest.
    loudest = powers[CLEAN] if CLEAN in powers else np.concatenate([p.ravel() for p in powers.values()])
    reference = float(loudest.max())
    # Samples beyond full scale would be audibly clipped; all versions are attenuated equally, so they stay comparable.
    peak = max(1.0, *(float(np.abs(signal).max()) for signal in signals.values()))
    return {
        "versions": [
            {
                "name": name,
                "seconds": signal.size / RATE,
                "cut": signal.size >= round(LONGEST_SECONDS * RATE),
                "audio": _base64(_wav(signal / peak)),
                "image": _base64(spectrogram.image(powers[name], reference)),
            }
            for name, signal in signals.items()
        ]
    }


def _signals(case: Case, order: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    for name in order:
        path = case.paths.get(name)
        try:
            signal = None if path is None else _read(path)
        except audio.AudioError:
            continue  # the reason is shown with its missing score
        if signal is not None and signal.size:
            yield name, signal


def _read(path: Path) -> np.ndarray:
    rate = audio.probe(path).sample_rate
    signal = np.nan_to_num(audio.read(path, 0, round(LONGEST_SECONDS * rate)), posinf=1.0, neginf=-1.0)
    return (signal if rate == RATE else soxr.resample(signal, rate, RATE))[: round(LONGEST_SECONDS * RATE)]


def _wav(signal: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, manifest.to_pcm16(signal), RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _hash(text: str) -> str:
    return "sha256-" + _base64(hashlib.sha256(text.encode()).digest())


def _block(name: str, content: Any) -> str:
    # Within JSON, only a `<` could end the enclosing element.
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'
