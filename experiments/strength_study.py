"""The effect of the enhancement's strength at each input SNR, from which the rule of `auto` is chosen.

    python -m experiments.strength_study --data HELD_OUT --out results/small/strength.json

`HELD_OUT` has clean/ and noisy/ (`experiments.held_out_set` makes it from speakers and noise not used in training). The
rule of `auto` is chosen on such files, and only checked on others.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from cmgan_jax import metrics
from cmgan_jax.cli._cli import run
from cmgan_jax.data import audio
from cmgan_jax.evaluation.evaluation import CLEAN, ENHANCED, NOISY, match_files
from cmgan_jax.inference.enhancer import Enhancer
from cmgan_jax.inference.strength import Strength, estimated_ratio, mixed
from cmgan_jax.runtime import cache_programs, prepare_programs
from cmgan_jax.system.outputs import refuse_file, write_json
from cmgan_jax.version import find_version

STRENGTHS: tuple[Strength, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, "auto")
"""Strengths to try; 0 is the noisy file."""
BANDS = (-np.inf, 0.0, 5.0, 10.0, 15.0, 20.0, np.inf)
"""Boundaries of the bands of input SNR, in dB."""
LEASTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Minimum shares to try for `auto`."""
MARGINS = {"pesq": 0.0, "si_sdr": 0.0}
"""Minimum mean gain of each measure in a band."""


@dataclass(frozen=True)
class Arguments:
    """Score every strength on a folder of pairs, by band of input SNR."""

    data: Path
    """Folder with clean/ and noisy/, 16 kHz, mono."""
    out: Path
    """JSON file of the scores of each file."""
    checkpoint: Path | None = None
    """Weights to use instead of those in the package."""


def ratio(clean: np.ndarray, noisy: np.ndarray) -> float:
    """Return the true signal-to-noise ratio of a noisy file, in dB."""
    return 10 * float(np.log10(np.sum(clean**2, dtype=np.float64) / np.sum((noisy - clean) ** 2, dtype=np.float64)))


def band(decibels: float) -> str:
    """Return the name of the band of an input SNR."""
    upper = int(np.searchsorted(BANDS, decibels, side="right"))
    low, high = BANDS[upper - 1], BANDS[upper]
    if np.isinf(low):
        return f"below {high:.0f} dB"
    return f"from {low:.0f} dB" if np.isinf(high) else f"{low:.0f} to {high:.0f} dB"


def measure(data: Path, checkpoint: Path | None = None) -> list[dict[str, Any]]:
    """Enhance each file once, and score every mixture; `auto` mixes piece by piece, as the enhancer does."""
    whole, auto = (Enhancer.from_checkpoint(checkpoint, strength=strength) for strength in (1.0, "auto"))
    files = []
    for case in match_files({CLEAN: data / CLEAN, NOISY: data / NOISY}, ENHANCED):
        clean, noisy = (audio.read(case.paths[side]) for side in (CLEAN, NOISY))
        rate = audio.probe(case.paths[NOISY]).sample_rate
        enhanced = whole.enhance(noisy, rate)
        scores = {}
        for strength in STRENGTHS:
            estimate = auto.enhance(noisy, rate) if strength == "auto" else mixed(strength, noisy, enhanced)
            scores[str(strength)] = {
                "pesq": metrics.pesq(clean, estimate, rate),
                "si_sdr": float(metrics.si_sdr(clean, estimate)),
            }
        files.append(
            {
                "name": case.name,
                "input_snr": ratio(clean, noisy),
                "estimated_snr": estimated_ratio(noisy, enhanced),
                "scores": scores,
            }
        )
    return files


def table(files: list[dict[str, Any]]) -> str:
    """Make a Markdown table of mean PESQ and SI-SDR of each strength, by band."""
    lines = ["| input SNR | files | " + " | ".join(str(strength) for strength in STRENGTHS) + " |"]
    lines.append("|---" * (2 + len(STRENGTHS)) + "|")
    by_band: dict[str, list[dict]] = {}
    for file in sorted(files, key=lambda file: file["input_snr"]):
        by_band.setdefault(band(file["input_snr"]), []).append(file)
    for name, members in [*by_band.items(), ("all", files)]:
        cells = []
        for strength in STRENGTHS:
            pesq, si_sdr = (
                np.mean([file["scores"][str(strength)][score] for file in members]) for score in ("pesq", "si_sdr")
            )
            cells.append(f"{pesq:.3f}, {si_sdr:.1f} dB")
        lines.append(f"| {name} | {len(members)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def choose(files: list[dict[str, Any]]) -> dict[str, float]:
    """Choose the rule of `auto` with the best mean PESQ among those that harm no SNR band in PESQ or SI-SDR.

    Scores between two measured strengths are interpolated.

    Returns:
        `full_up_to`, `least_from` and `least` (see `strength`), and `pesq`, the mean; empty if every rule harms a band.
    """
    measured = [strength for strength in STRENGTHS if strength != "auto"]
    ratios = np.array([file["estimated_snr"] for file in files])
    names = np.array([band(file["input_snr"]) for file in files])
    scores = {
        score: np.array([[file["scores"][str(strength)][score] for strength in measured] for file in files])
        for score in ("pesq", "si_sdr")
    }
    best: dict[str, float] = {}
    for full, width, least in itertools.product(np.arange(0.0, 21.0, 1.0), (3.0, 6.0, 9.0, 12.0), LEASTS):
        shares = np.interp(ratios, [full, full + width], [1.0, least])
        found = {
            score: np.array([np.interp(share, measured, row) for share, row in zip(shares, rows, strict=True)])
            for score, rows in scores.items()
        }
        harms = any(
            np.median(found[score][names == name] - rows[names == name, 0]) < MARGINS[score]
            for score, rows in scores.items()
            for name in set(names)
        )
        pesq = float(np.mean(found["pesq"]))
        if not harms and pesq > best.get("pesq", -np.inf):
            best = {"full_up_to": float(full), "least_from": float(full + width), "least": float(least), "pesq": pesq}
    return best


def main() -> None:
    """Measure, write and print the results."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.strength_study")
    refuse_file("--out", arguments.out)
    prepare_programs()
    cache_programs()
    files = measure(arguments.data, arguments.checkpoint)
    chosen = choose(files)
    write_json(arguments.out, {"version": find_version(), "files": files, "chosen": chosen})
    print(table(files))
    print(f"auto: {chosen or 'every rule harms'}")


if __name__ == "__main__":
    run(main)
