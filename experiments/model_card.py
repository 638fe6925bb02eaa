"""The model card of the small model: its text, and tables made from the records."""

from collections.abc import Mapping
from typing import Any

MEASURES = {"pesq": "PESQ", "csig": "CSIG", "cbak": "CBAK", "covl": "COVL", "stoi": "STOI", "si_sdr": "SI-SDR, dB"}
"""Measures in the tables, with their headings."""
DIGITS = {"stoi": 3, "si_sdr": 1, "pesq": 3}
"""Decimals of a measure; 2 for those not listed."""

_INTRODUCTION = """\
# Model card: the small model

This is the model that `cmgan enhance FILE` and `Enhancer()` use when no checkpoint is named. It is a CMGAN of preset
`small`: two-stage conformers with a mask decoder and a complex decoder, {parameters:,} parameters, {megabytes:.1f} MB
in `cmgan_jax/weights/small.safetensors`. The weights have the licence of the code, MIT. The corpora that trained
them have licences of their own and are credited below. Some of these ask that a work derived from them carries the same
licence, and whether a network is such a work is not settled.

## What it is for

It removes noise from recordings of one voice or several, at 16 kHz; other sample rates are converted there and back. It
runs offline, on a laptop's processor.

## What it cannot do

- It gives nothing above 8 kHz.
- It was trained on noise and early reflections. It does not take away long reverberation, echo, or a second voice.
- It takes music for noise. Reverberation is taken for noise in parts, too: see the table of other sounds.
- Speech that a telephone or clipping has damaged stays damaged.
- Nobody has listened to it in a formal test: the figures below are computed measures, and a computed measure can be
  wrong about what people hear.

## Strength

By default (`--strength auto`) each piece of a recording is a mixture of what came in and what the network made of it.
The network's own estimate of the signal-to-noise ratio decides: below {full:.0f} dB the enhanced signal is used alone,
and its share falls to {least:.0%} at {from_:.0f} dB. `--strength 1` uses the enhanced signal alone, and `--strength 0`
changes nothing.
"""

_DATA = """\
## Training data

| corpus | licence |
|---|---|
| LibriSpeech, 240 speakers | CC BY 4.0 |
| VCTK, 20 speakers (none of the test set of VoiceBank+DEMAND) | CC BY 4.0, ODC-By |
| coffee orders by Picovoice, 52 speakers | Apache-2.0 |
| Arabic speech commands, 26 speakers | CC BY 4.0 |
| prompts of Asterisk, English and Italian, two voices | CC BY-SA 3.0, CC BY 3.0 |
| noise: ESC-10, MS-SNSD, Speech Commands, Picovoice and others | CC BY 3.0, CC0, CC BY 4.0, MIT, Apache-2.0 |

One in ten speakers, and recordings of noise that make a tenth of the files, were held out for validation. No recording
of VoiceBank+DEMAND trained the model or selected its weights, its size or the thresholds of `auto`. An estimate without
low frequencies was considered for `auto` and dropped after a look at the 14 pairs, too. Mixtures have −5 to 25 dB of
signal-to-noise ratio; some have no noise, early reflections, a limited band, soft clipping or another level
(`experiments/small_model.py`).
"""


def number(measure: str, value: float) -> str:
    """Format a score for the tables."""
    return f"{value:.{DIGITS.get(measure, 2)}f}"


def scores(record: Mapping[str, Any]) -> str:
    """Make a Markdown table of noisy and enhanced scores by input SNR; `record` is from `cmgan evaluate`."""
    lines = [f"| files | | {' | '.join(MEASURES.values())} |", "|---" * (2 + len(MEASURES)) + "|"]
    groups = [(f"all {record['total']}", {name: of["summary"] for name, of in record["systems"].items()})]
    groups += [
        (f"{group['label']}, {group['files']}", group["summaries"])
        for group in record["groups"]
        if group["kind"] == "input_snr"
    ]
    for label, systems in groups:
        for system in ("noisy", "enhanced"):
            means = [number(measure, systems[system][measure]["mean"]) for measure in MEASURES]
            lines.append(f"| {label} | {system} | {' | '.join(means)} |")
    return "\n".join(lines)


def curve(stages: list[Mapping[str, Any]]) -> str:
    """Make a Markdown table of validation results by seconds of training audio."""
    lines = ["| seconds of audio | PESQ | SI-SDR, dB | loss |", "|---|---|---|---|"]
    noisy = stages[-1]["noisy"]
    if noisy:
        lines.append(f"| noisy | {noisy['score']:.3f} | {noisy['si_sdr']:.1f} | |")
    before = 0.0
    for stage in stages:
        step = stage["config"]["batch"] * stage["config"]["data"]["crop_seconds"]
        for epoch in stage["epochs"]:
            heard = before + epoch["step"] * step
            lines.append(f"| {heard:,.0f} | {epoch['score']:.3f} | {epoch['si_sdr']:.2f} | {epoch['loss']:.4f} |")
        before += stage["audio_seconds"]
    return "\n".join(lines)


def losses(record: Mapping[str, Any]) -> str:
    """Say in which bands of input SNR the mean PESQ or SI-SDR falls; `record` is from `cmgan evaluate`."""
    fallen = [
        f"{MEASURES[measure].removesuffix(', dB')} by {-gain:.{digits}f}{unit} in the band {group['label']}"
        for group in record["groups"]
        if group["kind"] == "input_snr"
        for measure, digits, unit in (("pesq", 3, ""), ("si_sdr", 1, " dB"))
        if (gain := group["summaries"]["enhanced"][measure]["mean"] - group["summaries"]["noisy"][measure]["mean"]) < 0
    ]
    return f"The mean falls: {'; '.join(fallen)}." if fallen else "In no band does the mean PESQ or SI-SDR fall."


def other_sounds(record: Mapping[str, Any]) -> str:
    """Make a Markdown table of sounds without noise; `record` is from `experiments.other_sounds`."""
    auto, whole = record["strengths"]["auto"], record["strengths"]["1.0"]
    lines = ["| sound | files | PESQ, auto | level, auto | PESQ, strength 1 | level, strength 1 |", "|---" * 6 + "|"]
    for kind, figures in auto.items():
        if "level" not in figures:
            continue
        cells = [
            f"{of[kind][name]:{form}}" if name in of[kind] else "–"
            for of in (auto, whole)
            for name, form in (("pesq", ".2f"), ("level", "+.1f"))
        ]
        lines.append(f"| {kind} | {figures['files']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def card(
    training: Mapping[str, Any],
    held_out: Mapping[str, Any],
    voicebank: Mapping[str, Any],
    others: Mapping[str, Any],
) -> str:
    """Make the model card in Markdown.

    Args:
        training: the record of `experiments.package_model weights`.
        held_out: the record of `cmgan evaluate` on mixtures of held-out speakers and noises.
        voicebank: the record of `cmgan evaluate` on pairs of VoiceBank+DEMAND.
        others: the record of `experiments.other_sounds`.
    """
    from cmgan_jax.inference.strength import FULL_UP_TO, LEAST, LEAST_FROM

    stages = training["stages"]
    total = sum(stage["audio_seconds"] for stage in stages)
    noisy, enhanced = (voicebank["systems"][name]["summary"] for name in ("noisy", "enhanced"))
    files = stages[-1]["noisy"].get("files", 0)
    return "\n".join(
        [
            _INTRODUCTION.format(
                parameters=training["parameters"],
                megabytes=training["bytes"] / 1e6,
                full=FULL_UP_TO,
                least=LEAST,
                from_=LEAST_FROM,
            ),
            "## Scores",
            "",
            "By `cmgan enhance` with no options. PESQ is P.862.2 without Corrigendum 2, as in the literature. On "
            f"{voicebank['total']} pairs of VoiceBank+DEMAND PESQ rises from {noisy['pesq']['mean']:.3f} to "
            f"{enhanced['pesq']['mean']:.3f} (records: `results/small/voicebank.json`, `results/small/held-out.json`):",
            "",
            scores(voicebank),
            "",
            losses(voicebank),
            "",
            "On mixtures of held-out speakers and held-out noises:",
            "",
            scores(held_out),
            "",
            losses(held_out),
            "",
            "## Other sounds",
            "",
            "Recordings without noise should stay as they are. PESQ compares the output with the input (4.64 is the "
            "highest value there is), and the level is the output's energy over the input's, in dB. The speech is that "
            "of the pairs of VoiceBank+DEMAND, as it is, in the band of a telephone, clipped at a quarter of its peak, "
            "and in five rooms. The music is made of chords. Silence stays silence (record: "
            "`results/small/other-sounds.json`).",
            "",
            other_sounds(others),
            "",
            _DATA,
            "## Training",
            "",
            f"It has heard {total:,.0f} seconds of audio in {sum(stage['step'] for stage in stages):,} steps"
            + (", by the metric losses alone" if len(stages) == 1 else ", first by the metric losses alone")
            + f", at revision `{stages[-1]['revision'][:10]}`. The command is `python -m experiments.small_model "
            "--corpora DIR… --out runs/small` (`make small-model`); the settings of the run are in "
            f"`results/small/training.json` and in the file of weights. Validation on {files} held-out files after "
            "each epoch, at full strength:",
            "",
            curve(stages),
            "",
        ]
    )
