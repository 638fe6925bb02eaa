"""Verdicts in words while a run goes on, and its report. What cannot be written does not stop the run."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.diagnosis.finding import Verdict
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.rules import judge
from cmgan_jax.system.outputs import write_json, write_text
from cmgan_jax.training import pictures, report
from cmgan_jax.training.display import Display
from cmgan_jax.training.records import Recorder
from cmgan_jax.training.validation import Held

VERDICTS = "health.json"
UNSAID = ("good", "unknown")
"""Levels that are written down, but not announced."""


class Observer:
    """Judges a run by its own records.

    A verdict is announced once, when it is first passed: on the display and as a record of kind `verdict`. Those that
    hold now are in `health.json`.

    Args:
        folder: the run folder.
        config: the run's numbers.
        recorder: where verdicts go.
        display: what a person sees.
        held: of which some files are shown in the report.
        origin: a sentence on what the run began with; None: random weights.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        recorder: Recorder,
        display: Display,
        held: Held,
        origin: str | None = None,
    ):
        self._folder = folder
        self._config = config
        self._recorder = recorder
        self._display = display
        self._held = held
        self._origin = origin
        self._said = {record["code"] for record in recorder.records if record["kind"] == "verdict"}

    def after_window(self, step: int) -> None:
        """Judge now and then, since an epoch can take hours."""
        every = self._config.health.judge_every
        if self._config.health.measure and every and step // self._config.log_every % every == 0:
            self._guarded(self._judge, step)

    def after_epoch(self, step: int, epoch: int, enhanced: Mapping[str, np.ndarray]) -> None:
        """Judge, and write the report anew.

        Args:
            step: updates attempted.
            epoch: that has ended, counted from 1.
            enhanced: the held-out files to be shown, by name.
        """
        if self._config.health.measure:
            self._guarded(self._report, step, epoch, enhanced)

    def _guarded(self, act: Any, *arguments: Any) -> None:
        try:
            act(*arguments)
        except OSError as error:
            where = Path(error.filename).name if error.filename else "the report"
            self._display.note(f"{where} could not be written ({error.strerror or error}); the run goes on without it")

    def _judge(self, step: int) -> tuple[Verdict, ...]:
        verdicts = judge(History.from_records(self._recorder.records, dataclasses.asdict(self._config)))
        for verdict in verdicts:
            if verdict.code not in self._said and verdict.level not in UNSAID:
                self._said.add(verdict.code)
                self._display.note(f"step {step}, {verdict.code}: {verdict.text}")
                self._recorder.record("verdict", step, {"code": verdict.code, "text": verdict.text})
        passed = [{"code": of.code, "level": of.level, "text": of.text} for of in verdicts]
        write_json(self._folder / VERDICTS, {"step": step, "verdicts": passed})
        return verdicts

    def _report(self, step: int, epoch: int, enhanced: Mapping[str, np.ndarray]) -> None:
        verdicts = self._judge(step)
        files = self._held.shown
        pictures.save_epoch(self._folder, epoch, files, enhanced, self._config.spectral.sample_rate)
        seen = {name: pictures.pick(self._folder, name, epoch) for name, _, _ in files}
        name = self._folder.resolve().name
        write_text(
            self._folder / report.PAGE,
            report.build(name, self._config, self._recorder.records, verdicts, seen, self._origin),
        )
