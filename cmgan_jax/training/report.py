"""The training report: a self-contained web page about a run, made from its records."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.diagnosis.finding import Finding, Level
from cmgan_jax.diagnosis.history import Columns, History
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.report import webpage
from cmgan_jax.report.charts import Axis, Series, line_chart, scatter
from cmgan_jax.runs.records import upgraded

PAGE = "report.html"

TONES: dict[Level, str] = {"collapse": "bad", "fault": "bad", "sign": "warn", "unknown": "", "good": "good"}

STYLE = """
.pictures { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 260px), 1fr)); }
.pictures figure { margin: 0; min-width: 0; } .pictures figcaption { font-size: .85rem; color: var(--soft); }
.pictures img { display: block; width: 100%; height: 128px; border-radius: 6px; image-rendering: auto; }
summary { cursor: pointer; margin: 4px 0 10px; }
h3 { font-size: .95rem; margin: 16px 0 8px; overflow-wrap: anywhere; }
"""


def build(
    name: str,
    config: Config,
    records: Sequence[dict[str, Any]],
    findings: Sequence[Finding],
    seen: Mapping[str, Mapping[str, bytes]],
    origin: str | None = None,
    scale: Scale = PESQ,
) -> str:
    """Make the page.

    Args:
        name: name of the run.
        config: the run's configuration.
        records: records from `metrics.jsonl`, with at least one epoch.
        findings: current findings.
        seen: PNG pictures of held-out files, by file and by label.
        origin: a sentence about the weights that the run began with; None: random weights.
        scale: scale of the target metric.

    Returns:
        HTML.
    """
    history = History.from_records(records, metric=scale)
    epochs = [upgraded(record) for record in records if record["kind"] == "epoch"]
    said = [record for record in records if record["kind"] == "finding"]
    curves = CurveGroup(history)
    body = [
        webpage.section("Findings", _findings(findings, said)),
        webpage.section("What comes out", webpage.chart_grid(_outcome(curves, scale))),
        webpage.section(
            "Whether the discriminator knows what it scores",
            webpage.chart_grid([*_discriminator(curves, scale), _calibration(epochs, scale)]),
        ),
        webpage.section("What the generator follows", webpage.chart_grid(_generator(curves))),
        webpage.section(
            "Scores, updates and waits", webpage.chart_grid(_host(curves, scale)) + _failures(epochs, config)
        ),
        webpage.section("Two held-out files over the epochs", _pictures(seen)) if any(seen.values()) else "",
    ]
    return webpage.document(f"Training report: {name}", _subtitle(config, epochs, origin, scale), "".join(body), STYLE)


class CurveGroup:
    """Columns of a history as series over epochs.

    Args:
        history: the history, with at least one epoch.
    """

    def __init__(self, history: History):
        self._steps, self._epochs = history.steps, history.epochs
        per_epoch = history.epoch("step")[-1] / history.epoch("epoch")[-1]
        self._at = history.step("step") / per_epoch
        self._ended = history.epoch("step") / per_epoch

    def steps(self, label: str, name: str, scale: float = 1.0) -> Series:
        """Series of a column of the step records."""
        return Series(label, self._at, scale * self.column(self._steps, name, self._at))

    def asked(self, label: str, name: str) -> Series:
        """Series of a column of the step records with occasional values only; what lies between is no gap."""
        of = self.steps(label, name)
        there = np.isfinite(of.y)
        return Series(label, of.x[there], of.y[there], dots=bool(np.count_nonzero(there) <= 40))

    def epochs(self, label: str, name: str, scale: float = 1.0, dashed: bool = False) -> Series:
        """Series of a column of the epoch records."""
        values = scale * self.column(self._epochs, name, self._ended)
        return Series(label, self._ended, values, dashed=dashed, dots=not dashed and len(values) <= 40)

    @staticmethod
    def column(columns: Columns, name: str, like: np.ndarray) -> np.ndarray:
        """A column, or NaN throughout if it was not measured."""
        return columns.get(name, np.full(len(like), np.nan))


EPOCH = Axis("epoch")


def _outcome(of: CurveGroup, scale: Scale) -> Iterable[str]:
    score = of.epochs("enhanced", "validation.score")
    so_far = scale.oriented(np.fmax.accumulate(scale.oriented(score.y)))
    best = Series("best so far", score.x, np.where(np.isfinite(score.y), so_far, np.nan), dashed=True)
    yield line_chart(
        f"Validation {scale.label}",
        [score, best, of.epochs("noisy", "noisy.score", dashed=True)],
        EPOCH,
        Axis("MOS, 1 to 4.64" if scale == PESQ else scale.axis),
        "Whole held-out files. This is what the run is for." + ("" if scale.higher_is_better else " Lower is better."),
    )
    for other, name, unit in ((PESQ.label, "pesq", "MOS, 1 to 4.64"), ("SI-SDR", "si_sdr", "dB")):
        curve = of.epochs("enhanced", f"validation.{name}")
        if name == scale.name or not (name == "si_sdr" or np.isfinite(curve.y).any()):
            continue
        noisy = of.epochs("noisy", f"noisy.{name}", dashed=True)
        yield line_chart(f"Validation {other}", [curve, noisy], EPOCH, Axis(unit))
    yield line_chart(
        "Generator loss",
        [of.steps("training", "generator_loss"), of.epochs("validation, without its discriminator", "validation.loss")],
        EPOCH,
        Axis("weighted sum"),
        f"A loss that falls while {scale.label} {'falls' if scale.higher_is_better else 'rises'} no longer measures "
        "what is wanted.",
    )
    terms = ("ri", "magnitude", "time", "adversarial")
    yield line_chart(
        "Its terms",
        [of.steps(term, f"loss_{term}") for term in terms],
        EPOCH,
        Axis("before weighting", log=True),
        "In training.",
    )


def _discriminator(of: CurveGroup, scale: Scale) -> Iterable[str]:
    yield line_chart(
        "Discriminator loss",
        [
            of.steps("whole", "discriminator_loss"),
            of.steps("of estimates", "discriminator_loss_estimate"),
            of.steps("of clean speech", "discriminator_loss_clean"),
        ],
        EPOCH,
        Axis("mean squared error", log=True),
        "Strokes on the lower edge are exactly 0: windows of skipped updates.",
    )
    yield line_chart(
        f"Rank correlation with true {scale.label}",
        [of.steps("last scores of training", "rank_correlation"), of.epochs("held out", "validation.rank_correlation")],
        EPOCH,
        Axis("-1 to 1", low=0.0, high=1.0),
        f"1: it orders estimates as {scale.label} does. At 0 the generator learns nothing from it.",
    )
    yield line_chart(
        "Calibration error and bias",
        [
            of.steps("error", "window_error", scale.span),
            of.steps("bias", "window_bias", scale.span),
            of.epochs("error, held out", "validation.calibration_error", scale.span),
            of.epochs("bias, held out", "validation.calibration_bias", scale.span),
        ],
        EPOCH,
        Axis(scale.axis),
        f"{'Predicted less true' if scale.higher_is_better else 'True less predicted'} {scale.label}: above 0 it "
        "scores too high.",
    )
    yield line_chart(
        "Score of clean speech",
        [of.steps("D(clean, clean)", "clean_score")],
        EPOCH,
        Axis("towards 1", low=0.0, high=1.0),
    )
    yield line_chart(
        "Spread of a batch's targets",
        [of.steps("standard deviation", "target_spread", scale.span)],
        EPOCH,
        Axis(scale.axis, low=0.0),
        "0: every item is taught the same score.",
    )


def _calibration(epochs: Sequence[dict[str, Any]], scale: Scale) -> str:
    """Chart of predicted against true scores of the held-out crops, in the first and the last epoch."""
    groups = []
    for record in (epochs[0], *epochs[1:][-1:]):
        sides = (record["validation"].get(name, []) for name in ("score_targets", "predicted"))
        true, predicted = (scale.score_of(np.array(side, np.float64)) for side in sides)
        groups.append(Series(f"epoch {record['epoch']}", true, predicted))
    return scatter(
        f"Predicted against true {scale.label}",
        groups,
        Axis(f"true, {scale.axis}"),
        Axis(f"predicted, {scale.axis}"),
        f"Held-out crops; on the dashed line it is right. {scale.range_in_words}",
    )


def _generator(of: CurveGroup) -> Iterable[str]:
    yield line_chart(
        "Output level against clean",
        [of.steps("level", "level_db")],
        EPOCH,
        Axis("dB"),
        "0 is right. It sinks where the time loss compares with a clean signal of another level.",
    )
    yield line_chart(
        "The adversarial term in the gradient",
        [of.asked("share of its norm", "adversarial_share"), of.asked("cosine with the rest", "adversarial_cosine")],
        EPOCH,
        Axis("share; -1 to 1"),
        "A cosine below 0: it pulls against the distance to clean speech.",
    )
    yield line_chart(
        "Gradient norms",
        [of.steps("generator", "generator_gradient_norm"), of.steps("discriminator", "discriminator_gradient_norm")],
        EPOCH,
        Axis("before clipping", log=True),
    )
    yield line_chart(
        "Learning rates",
        [of.steps("generator", "generator_rate"), of.steps("discriminator", "discriminator_rate")],
        EPOCH,
        Axis("rate", log=True),
    )


def _host(of: CurveGroup, scale: Scale) -> Iterable[str]:
    yield line_chart(
        "Scores and updates",
        [
            of.steps("scores valid", "valid_share", 100),
            of.steps("discriminator updates made", "discriminator_update", 100),
            of.steps("losses of exactly 0", "discriminator_loss_zero", 100),
            of.steps("losses under 0.001", "discriminator_loss_small", 100),
        ],
        EPOCH,
        Axis("% of a window", low=0.0, high=100.0),
    )
    yield line_chart(
        "Where a step's time goes",
        [
            of.steps("whole step", "step_ms"),
            of.steps(f"waiting for {scale.label}", "score_wait_ms"),
            of.steps("waiting for data", "data_wait_ms"),
        ],
        EPOCH,
        Axis("ms", log=True),
    )


def _findings(findings: Sequence[Finding], said: Sequence[dict[str, Any]]) -> str:
    now = webpage.notices((TONES[of.level], f"{of.text} [{of.code}]") for of in findings)
    if not said:
        return now
    first = webpage.notices(("", f"step {of['step']}: {of['text']} [{of['code']}]") for of in said)
    return f"{now}<details><summary>As they were first passed ({len(said)})</summary>{first}</details>"


def _subtitle(config: Config, epochs: Sequence[dict[str, Any]], origin: str | None, scale: Scale) -> str:
    scored = [record for record in epochs if record["validation"]["score"] is not None]
    choose = max if scale.higher_is_better else min
    best = choose(scored, key=lambda record: record["validation"]["score"], default=None)
    worth = (
        f"best {scale.named(best['validation']['score'])} in epoch {best['epoch']}" if best else f"no {scale.label} yet"
    )
    return (
        f"Recipe {config.recipe}, preset {config.preset}, failed scores: {config.targets.policy}; "
        f"epoch {epochs[-1]['epoch']} of {config.epochs}, {worth}" + (f". {origin}" if origin else "")
    )


def _failures(epochs: Sequence[dict[str, Any]], config: Config) -> str:
    """Table of failed scores by reason, in the last epoch and in all epochs."""
    last = epochs[-1]["train"]["failures"]
    total: dict[str, int] = {}
    for record in epochs:
        for reason, count in record["train"]["failures"].items():
            total[reason] = total.get(reason, 0) + count
    if not total:
        return '<p class="fine">No score of a training crop has failed.</p>'
    scores = epochs[-1]["step"] * config.batch
    rows = [
        [reason, str(last.get(reason, 0)), str(count), f"{count / scores:.1%}"]
        for reason, count in sorted(total.items(), key=lambda item: -item[1])
    ]
    head = ("reason", f"epoch {epochs[-1]['epoch']}", "all epochs", "of all scores")
    return f"<h3>Failed scores by reason</h3>{webpage.table(head, rows)}"


def _pictures(seen: Mapping[str, Mapping[str, bytes]]) -> str:
    parts = []
    for name, pictures in seen.items():
        figures = "".join(
            f'<figure><img alt="{escape(f"spectrogram, {label}: {name}")}" '
            f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
            f"<figcaption>{escape(label)}</figcaption></figure>"
            for label, content in pictures.items()
        )
        parts.append(f'<h3>{escape(name)}</h3><div class="pictures">{figures}</div>')
    return "".join(parts) + '<p class="fine">The first 4 s, 0 to 8 kHz, 75 dB below the clean file\'s loudest.</p>'
