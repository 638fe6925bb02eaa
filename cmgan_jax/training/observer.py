"""Diagnosis of a run while it trains, and its report. Write errors are reported but do not stop the run."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.diagnosis.finding import Finding
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.rules import apply_rules
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.system.outputs import write_json, write_text
from cmgan_jax.training import pictures, report
from cmgan_jax.training.display import Display
from cmgan_jax.training.records import Recorder
from cmgan_jax.training.validation import Held

FINDINGS = "health.json"
UNSAID = ("good", "unknown")
"""Levels of findings that are recorded, but not announced."""


class Observer:
    """Diagnoses a run from its own records.

    A finding is announced once, when it first appears, on the display and as a record of kind `finding`. `health.json`
    has the current findings.

    Args:
        folder: the run folder.
        config: the run's configuration.
        recorder: records the findings.
        display: shows the findings to the user.
        held: held-out data; the report shows some of the files.
        origin: a sentence about the weights that the run began with; None: random weights.
        scale: scale of the target metric.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        recorder: Recorder,
        display: Display,
        held: Held,
        origin: str | None = None,
        scale: Scale = PESQ,
    ):
        self._folder = folder
        self._config = config
        self._recorder = recorder
        self._display = display
        self._held = held
        self._origin = origin
        self._scale = scale
        self._said = {record["code"] for record in recorder.records if record["kind"] == "finding"}

    def after_window(self, step: int) -> None:
        """Apply the rules from time to time within an epoch, since an epoch can take hours."""
        every = self._config.health.diagnose_every
        if self._config.health.measure and every and step // self._config.log_every % every == 0:
            self._guarded(self._check, step)

    def after_epoch(self, step: int, epoch: int, enhanced: Mapping[str, np.ndarray]) -> None:
        """Apply the rules and rewrite the report.

        Args:
            step: number of updates attempted.
            epoch: the epoch that has ended, counted from 1.
            enhanced: the enhanced held-out files to show, by name.
        """
        if self._config.health.measure:
            self._guarded(self._report, step, epoch, enhanced)

    def _guarded(self, act: Any, *arguments: Any) -> None:
        try:
            act(*arguments)
        except OSError as error:
            where = Path(error.filename).name if error.filename else "the report"
            self._display.note(f"{where} could not be written ({error.strerror or error}); the run goes on without it")

    def _check(self, step: int) -> tuple[Finding, ...]:
        findings = apply_rules(
            History.from_records(self._recorder.records, dataclasses.asdict(self._config), metric=self._scale)
        )
        for finding in findings:
            if finding.code not in self._said and finding.level not in UNSAID:
                self._said.add(finding.code)
                self._display.note(f"step {step}, {finding.code}: {finding.text}")
                self._recorder.record("finding", step, {"code": finding.code, "text": finding.text})
        found = [{"code": of.code, "level": of.level, "text": of.text} for of in findings]
        write_json(self._folder / FINDINGS, {"step": step, "findings": found})
        return findings

    def _report(self, step: int, epoch: int, enhanced: Mapping[str, np.ndarray]) -> None:
        findings = self._check(step)
        files = self._held.shown
        pictures.save_epoch(self._folder, epoch, files, enhanced, self._config.spectral.sample_rate)
        seen = {name: pictures.pick(self._folder, name, epoch) for name, _, _ in files}
        name = self._folder.resolve().name
        write_text(
            self._folder / report.PAGE,
            report.build(name, self._config, self._recorder.records, findings, seen, self._origin, self._scale),
        )
