"""The training loop: steps, records, validation, selection of the best model, checkpoints, signals.

A checkpoint may be written after any step. The one of an epoch's last step is written after validation.
"""

import signal
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.data.corpus import Corpus
from cmgan_jax.data.pipeline import (
    Crops,
    Lookahead,
    names_of_batch,
    steps_per_epoch,
    training_batches,
    validation_crops,
    validation_files,
)
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.models.networks import NetworkFactory, make_networks
from cmgan_jax.runs.folder import LATEST, started, steps_in
from cmgan_jax.system.progress import told_while
from cmgan_jax.training import display as sentences
from cmgan_jax.training.checkpoint import CheckpointStore
from cmgan_jax.training.display import Display, Progress
from cmgan_jax.training.divergence import Diverged, account, is_finite
from cmgan_jax.training.hosts import NO_REQUESTS, Requests
from cmgan_jax.training.interruption import Interruption
from cmgan_jax.training.observer import Observer
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.position import Meter, Position
from cmgan_jax.training.provenance import digest
from cmgan_jax.training.records import NullRecorder, Recorder
from cmgan_jax.training.score_targets import TargetScorer
from cmgan_jax.training.selection import improves, kept_best
from cmgan_jax.training.state import TrainState, rate_factor
from cmgan_jax.training.stepper import Stepper, StepResult, first_device_copy
from cmgan_jax.training.steps import compile_steps
from cmgan_jax.training.validation import Held, measure_crops, score_files, score_noisy


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        interrupted: the signal that ended it, or None.
        step: number of updates attempted.
        noisy: scores of the held-out files before enhancement.
        best: best validation score with its epoch and other scores, of the checkpoint in `best`; None: no epoch has a
            score of every held-out file.
        scale: scale of the target metric.
    """

    interrupted: signal.Signals | None
    step: int
    noisy: dict[str, Any] | None
    best: dict[str, Any] | None
    scale: Scale = PESQ


class Trainer:
    """Trains one run in one folder.

    Args:
        config: the run's configuration.
        corpus: data for training and validation.
        folder: existing folder for records and checkpoints.
        placement: devices that share a step.
        state: both networks, on those devices; it is donated.
        position: progress of the run, from which it continues.
        about: config and provenance, which every checkpoint stores beside the state.
        display: shows progress to the user.
        network_factory: builds both networks.
    """

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        folder: Path,
        placement: Placement,
        state: TrainState,
        position: Position,
        about: dict[str, Any],
        display: Display,
        network_factory: NetworkFactory = make_networks,
    ):
        self.config = config
        self._networks = network_factory(config, None)
        self.position = position
        self._placement = placement
        self._about = about
        self._display = display
        self._steps_per_epoch = steps_per_epoch(corpus, config)
        self._held = Held(validation_crops(corpus, config), validation_files(corpus, config))
        self._hosts = placement.hosts
        batches = training_batches(corpus, config, host=self._hosts.index, hosts=self._hosts.count)
        if position.batches is not None:
            batches.set_state(position.batches)
        self._batches = Lookahead(batches)
        rows = config.batch // self._hosts.count
        self._scorer = TargetScorer(config.targets, rows, config.seed, config.spectral.sample_rate, self._hosts)
        self._stepper = Stepper(
            config, placement, self._scorer, state, compile_steps(config, placement, network_factory)
        )
        self._corpus = corpus
        self._folder = folder
        self._store = CheckpointStore(folder, position.step)
        scale = self._scorer.scale
        recorder = Recorder(folder, position.step, scale.name) if self._hosts.first else None
        self._recorder = recorder or NullRecorder()
        self._observer = (
            Observer(folder, config, recorder, display, self._held, started(about), scale) if recorder else None
        )
        self._interruption = Interruption()
        self._agreed = NO_REQUESTS
        self._pace: tuple[float, int] | None = None
        self._saved = time.monotonic(), position.step
        self._records_fail = False
        self._display_lost = False
        position.best, lacking = kept_best(folder, position, len(self._held.files), scale)
        if lacking:
            display.note(lacking)

    def train(self) -> Outcome:
        """Train to the last epoch, or until a signal asks to save and exit."""
        try:
            with self._interruption:
                self._display.note("compiling; the first step takes a minute or so, later starts find it in the cache")
                while self.position.step < self._total and not self._stopping:
                    epoch = self.position.step // self._steps_per_epoch
                    self._steps(epoch)
                    ended = self.position.step == (epoch + 1) * self._steps_per_epoch
                    self._save(best=ended and self._end_epoch(epoch))
                self._hosts.agree(self._finish_saving)
                self._note_lost_display()
                if self._stopping:
                    self._event("stopped", signal=self._stopping.name, then="saved")
        finally:
            self._scorer.close()
            self._batches.close()
            if lost := self._recorder.close():
                self._display.note(f"{lost} records could not be written: metrics.jsonl lacks them")
            self._store.close()
        return Outcome(self._stopping, self.position.step, self.position.noisy, self.position.best, self._scorer.scale)

    @property
    def _stopping(self) -> signal.Signals | None:
        """The signal that stops the run. One host obeys at once; several stop after the step in which they agree."""
        if self._hosts.count == 1:
            return self._interruption.signal
        return signal.Signals(self._agreed.stop) if self._agreed.stop else None

    @property
    def _total(self) -> int:
        return self.config.epochs * self._steps_per_epoch

    def _steps(self, epoch: int) -> None:
        """Run the steps of an epoch. A step's values are read during the next step, so that devices never wait."""
        end = (epoch + 1) * self._steps_per_epoch
        before: tuple[Crops, StepResult, dict[str, float]] | None = None
        while self.position.step < end and not self._stopping:
            clock = time.monotonic()
            batch = self._batches.take()
            # Do not look ahead across a validation, nor in the first step of this process, for which the user waits.
            on = self.position.step + 1 < end and self._pace is not None
            following = self._batches.look() if on else None
            waited = time.monotonic() - clock
            mine = Requests(self._interruption.signal or 0, self._save_is_due(self.position.step + 1))
            with self._told_while("compiling the step's programs", self._pace is None):
                self._agreed = self._hosts.exchange_requests(mine)
                measured = self._stepper(batch, self.position.step, epoch, following)
            timing = {"data_wait_ms": 1e3 * waited, "step_ms": 1e3 * (time.monotonic() - clock)}
            if before is not None:
                self._take(*before, self.position.step, epoch)
            before = batch, measured, timing
            self.position.step += 1
            self._note_failed_save(wait=False)
            due = self.position.step < end and self._agreed.save
            # Read the first step of this process at once, too, so that it is shown before the second.
            if due or self._pace is None:
                self._take(*before, self.position.step, epoch)
                before = None
            if due and not self.position.in_a_row:
                self._save()
        if before is not None:
            self._take(*before, self.position.step, epoch)

    def _take(self, batch: Crops, measured: StepResult, timing: dict[str, float], step: int, epoch: int) -> None:
        """Add a step's values to the running means and show them; at the end of a window, record its means."""
        values, pairs = measured.read()
        self._watch(values, batch, step)
        values |= timing
        if self.config.health.measure:
            values |= self.position.predictions.add(pairs, self.config.health.window)
        for meter in (self.position.window, self.position.epoch):
            meter.add(values, measured.failures)
        values = self._means(self.position.window, epoch)
        left, scale = self._seconds_left(step), self._scorer.scale
        self._display.show(Progress(epoch, self.config.epochs, step, self._total, left, values, scale))
        self._note_lost_display()
        if step % self.config.log_every == 0:
            self._record("step", step, {"epoch": epoch + 1} | values)
            if self._observer:
                self._observer.after_window(step)
            self.position.window = Meter()

    def _watch(self, values: dict[str, float], batch: Crops, step: int) -> None:
        """Count steps with a non-finite loss or gradient.

        Raises:
            Diverged: there are too many in a row.
        """
        if is_finite(values):
            self.position.in_a_row = 0
            return
        self.position.not_finite += 1
        self.position.in_a_row += 1
        if self.position.in_a_row == 1:
            self._display.note(f"step {step}: the loss or a gradient is not finite; no update is made from it")
        if self.position.in_a_row < self.config.patience:
            return
        # The checkpoint that is being written may be the last good one, so wait for it.
        self._note_failed_save(wait=True)
        clean, noisy = (np.concatenate(self._hosts.exchange(batch[name])) for name in ("clean", "noisy"))
        whole = Crops(clean=clean, noisy=noisy)
        names = names_of_batch(self._corpus, self.config, step - 1)
        told = self._hosts.from_first(
            lambda: account(self._folder, whole, step, self.position.in_a_row, self.config.seed, names)
        )
        raise Diverged(told)

    def _means(self, meter: Meter, epoch: int) -> dict[str, Any]:
        optimiser, values = self.config.optimiser, meter.summary()
        factor = rate_factor(optimiser, epoch)
        return values | {
            "crops_per_second": 1e3 * self.config.batch / values["step_ms"],
            "not_finite": self.position.not_finite,
            "generator_rate": optimiser.generator_rate * factor,
            "discriminator_rate": optimiser.discriminator_rate * factor,
        }

    def _seconds_left(self, step: int) -> float | None:
        """Estimate the remaining time from the pace after the first step of this process, which compiles."""
        now = time.monotonic()
        if self._pace is None:
            self._pace = (now, step)
            return None
        began, first = self._pace
        return (now - began) / max(step - first, 1) * (self._total - step)

    def _score_noisy(self) -> dict[str, Any]:
        """Score the noisy files, and report those that cannot be scored."""
        noisy = self._hosts.from_first(
            lambda: score_noisy(self._held, self.config, self._scorer.pool, self._scorer.scale)
        )
        if noisy["unscored"]:
            self._display.note(sentences.of_left_out(noisy))
        return noisy

    def _end_epoch(self, epoch: int) -> bool:
        """Validate, write the epoch's record, and return whether the model is the best so far by the target metric.

        Epochs are compared only by scores of the same files, so an epoch that lacks a score is never the best.
        """
        if self.position.noisy is None or not self.position.noisy["scored"]:
            # Done here so that it does not delay the first step, and repeated if no file could be scored.
            self.position.noisy = self._score_noisy()
        left_out, scale = self.position.noisy["unscored"], self._scorer.scale
        pesq_left_out = self.position.noisy.get("pesq_unscored", ())
        generator, average, discriminator = self._validated()
        enhanced: dict[str, Any] = {}

        def validate() -> dict[str, Any]:
            pool = self._scorer.pool
            values = measure_crops(average, discriminator, self._held, self.config, pool, scale, self._networks)
            scored = score_files(average, self._held, self.config, pool, left_out, scale, pesq_left_out, self._networks)
            enhanced.update(scored.enhanced)
            return values | scored.summary

        with self._told_while("validating; what is measured for the first time is compiled, too"):
            validation = self._hosts.from_first(validate)
        improved = improves(validation, self.position.best, scale)
        if improved:
            self.position.best = validation | {"epoch": epoch + 1}
        record = {
            "epoch": epoch + 1,
            "train": self._means(self.position.epoch, epoch),
            "validation": validation,
            "noisy": self.position.noisy,
            "best": improved,
            "generator_digest": digest(generator),
        }
        self._record("epoch", self.position.step, record)
        self.position.epoch, self.position.window = Meter(), Meter()
        self._display.note(sentences.of_epoch(self.config, record, scale))
        if self._observer:
            self._observer.after_epoch(self.position.step, epoch + 1, enhanced)
        return improved

    def _validated(self) -> tuple[Any, Any, Any]:
        """Copies on one device: trained parameters, variables of the validated generator and of the discriminator."""
        state = self._stepper.state
        discriminator = {"params": state.discriminator.params, "batch_stats": state.discriminator.batch_stats}
        return first_device_copy((state.generator.params, state.validated, discriminator), self._placement)

    def _record(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Write a record. A failed write does not end the run, and is reported once."""
        self._note_records(step, self._recorder.record(kind, step, values))

    def _note_records(self, step: int, error: OSError | None) -> None:
        """Report, once each, when records can no longer be written and when they can be written again."""
        if error is not None and not self._records_fail:
            self._display.note(f"step {step}: a record could not be written ({sentences.of_error(error)}); going on")
        elif error is None and self._records_fail:
            self._display.note(f"step {step}: records are written again")
        self._records_fail = error is not None

    def _told_while(self, what: str, long: bool = True) -> AbstractContextManager[None]:
        """Report what is going on if it takes long."""
        return told_while(self._display.note, what) if long else nullcontext()

    def _note_lost_display(self) -> None:
        """Record, once, that the display's output no longer arrives."""
        if not self._display_lost and (error := self._display.lost) is not None:
            self._display_lost = True
            self._event("display_lost", reason=sentences.of_error(error), then="goes on")

    def _event(self, event: str, **values: str) -> None:
        """Record an event of this process, such as an interruption; undisturbed runs have no such records."""
        self._record("event", self.position.step, {"event": event, **values})

    def _save_is_due(self, step: int) -> bool:
        number, unit = self.config.save_interval
        began, saved = self._saved
        passed = (time.monotonic() - began) / 60 if unit == "min" else step - saved
        return 0 < number <= passed

    def _save(self, best: bool = False) -> None:
        """Begin a checkpoint, which is written in the background by the first host after all have compared states.

        Raises:
            UserError: the states of the hosts differ.
        """
        self._note_failed_save(wait=True)
        if self._hosts.count > 1 and (apart := self._hosts.unlike_first(digest(self._stepper.state))):
            raise UserError(
                f"{self._folder}: after step {self.position.step} the parameters of host {apart} are not those of "
                f"host 0, so nothing is saved of it; {self._kept()}. Go on with --resume, and see which host's "
                "devices compute wrongly if it happens again"
            )
        self._note_records(self.position.step, self._recorder.sync())
        self.position.batches = self._batches.get_state()
        run = self._about | {"position": self.position.to_dict()}
        self._store.save(self.position.step, self._stepper.state, run, best)
        self._saved = time.monotonic(), self.position.step

    def _note_failed_save(self, wait: bool) -> None:
        if (error := self._store.failure(wait)) is not None:
            why = sentences.of_error(error)
            self._display.note(f"a checkpoint could not be written ({why}); {self._kept()}; going on")

    def _finish_saving(self) -> None:
        """Wait for the last checkpoint.

        Raises:
            UserError: the checkpoint could not be written.
        """
        if (error := self._store.failure(wait=True)) is not None:
            raise UserError(
                f"{self._folder}: the last checkpoint, of step {self.position.step}, could not be written "
                f"({sentences.of_error(error)}); {self._kept()}. When there is room again, go on with --resume: it "
                "trains again what came after it"
            ) from error

    def _kept(self) -> str:
        """Describe the existing checkpoints, after one could not be written."""
        steps = steps_in(self._folder / LATEST)
        kept = f"the last whole one is of step {steps[-1]}" if steps else "there is none before it"
        owed = self._store.owed
        return kept if owed is None else f"{kept}; the best so far, of step {owed}, is tried again before any other"
