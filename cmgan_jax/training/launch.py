"""Starting or resuming a run from the options of a command line, in a folder of its own."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.data.corpus import Corpus, sizes
from cmgan_jax.data.holdout import noise_held_out_before
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.protocol import Scale
from cmgan_jax.metrics.registry import check_metric, find_metric
from cmgan_jax.models.networks import NetworkFactory, Networks, make_networks
from cmgan_jax.recipes import to_dict
from cmgan_jax.runs.folder import ABOUT, is_run, read_about
from cmgan_jax.system.outputs import write_json
from cmgan_jax.training import checkpoint, lock, provenance
from cmgan_jax.training.display import Display
from cmgan_jax.training.hosts import Hosts
from cmgan_jax.training.identity import data_of, differences, start_in_words, start_of
from cmgan_jax.training.loop import Outcome, Trainer
from cmgan_jax.training.parallel import Placement, choose_devices
from cmgan_jax.training.position import Position
from cmgan_jax.training.score_targets import injection_shares
from cmgan_jax.training.start import Start
from cmgan_jax.training.state import TrainState, initialise

# Files that may be left by a run that was killed during its start.
_REMAINS = {lock.NAME, ABOUT + ".part"}


@dataclass(frozen=True)
class RunOptions:
    """Options of a command line about the run folder and devices.

    Attributes:
        folder: the run folder.
        devices: number of devices per host; 0: as many as possible that divide the batch.
        resume: whether to continue the run in the folder.
        overwrite: whether to delete the run in the folder.
    """

    folder: Path
    devices: int = 0
    resume: bool = False
    overwrite: bool = False


def refuse_occupied(options: RunOptions) -> None:
    """Check the folder against the options, before any work.

    Raises:
        UserError: the folder has a run, but neither resume nor overwrite is set; there is nothing to resume; or the
            folder cannot be used.
    """
    folder = options.folder
    occupied = is_run(folder)
    if options.resume and options.overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    if options.resume and not occupied:
        raise UserError(
            f"{folder}: nothing to resume there (no {ABOUT}, no checkpoint); leave --resume out to begin a run"
        )
    lock.refuse_held(folder)
    if options.resume and read_about(folder).get("provenance", {}).get("imported"):
        raise UserError(
            f"{folder}: its weights are imported, so there is no training to go on with; fine-tune them in a run of "
            f"its own: --start {folder} --out ANOTHER --data DIR"
        )
    if occupied and not (options.resume or options.overwrite):
        raise UserError(f"{folder} holds a run already: add --resume to go on with it, or --overwrite to delete it")
    if not occupied and folder.exists() and (not folder.is_dir() or not _REMAINS.issuperset(os.listdir(folder))):
        raise UserError(f"{folder} exists and is not a run folder: choose another --out")


def refuse_differences(asked: dict[str, Any], saved: dict[str, Any]) -> None:
    """Check that a run is resumed with its own config, corpus and initial weights.

    Args:
        asked: record of the requested run, as for run.json.
        saved: record of the existing run.

    Raises:
        UserError: the records differ; the message lists the differences.
    """
    if lines := differences(asked, saved):
        raise UserError(
            "--resume: this is not the same run; begin another with its own --out:\n"
            + "\n".join(f"  {line}" for line in lines)
        )


def known_as(corpus: Corpus, about: Mapping[str, Any] | None) -> str:
    """Fingerprint of a corpus by the rule that the run used; earlier versions hashed only names and sizes of files."""
    recorded = data_of(about or {}).get("fingerprint")
    return corpus.earlier_fingerprint if recorded == corpus.earlier_fingerprint else corpus.fingerprint


def refuse_other_division(corpus: Corpus, about: dict[str, Any]) -> None:
    """Check that a resumed run holds out the same files as before, so that no training file is used for validation.

    Raises:
        UserError: the split into training and validation differs from the recorded one. Earlier versions recorded only
            the numbers of files.
    """
    data = about["provenance"]["data"]
    if "division" in data:
        same = data["division"] == corpus.division
    else:
        held = {clip.name for clip in corpus.validation_noise}
        same_noise = not held or held == noise_held_out_before((*corpus.noise, *corpus.validation_noise))
        same = same_noise and sizes(data["description"]) == corpus.sizes
    if same:
        return
    commit = about["provenance"].get("source", {}).get("commit")
    version = f"that began it (commit {commit})" if commit else "that began it"
    before, now = ("\n  ".join(lines) for lines in (sizes(data["description"]), corpus.sizes))
    raise UserError(
        "--resume: this version divides the corpus in another way, so files that the run has trained on would "
        f"validate; go on with the version {version}, or begin another run with its own --out. The run has\n"
        f"  {before}\nand this version\n  {now}"
    )


def clear(folder: Path) -> None:
    """Delete the content of a run folder except for its lock; run.json goes last, since it marks a run folder."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == ABOUT):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != lock.NAME:
            path.unlink()


def launch(
    config: Config,
    corpus: Corpus,
    options: RunOptions,
    display: Display,
    source: dict[str, Any] | None = None,
    initial: Start | None = None,
    network_factory: NetworkFactory = make_networks,
) -> Outcome:
    """Start or resume a run, and train it to its end. Several hosts call this together, with one shared folder.

    Args:
        config: the run's configuration.
        corpus: the corpus, already checked.
        options: folder, devices, resume.
        display: shows progress to the user; only the first host's is visible.
        source: the command line's arguments for the corpus, recorded so that they can be omitted in a resume.
        initial: initial weights, used if the run has no checkpoint yet; None: random weights or, for a resumed run, its
            own initial weights.
        network_factory: builds both networks; by default those that the config names.

    Raises:
        UserError: the config or the metric is invalid, the folder is occupied, or the run to be resumed is another one.
    """
    check(config)
    placement = Placement(choose_devices(options.devices, config.batch), config.mapping)
    hosts = placement.hosts
    placement.connect()
    with ExitStack() as held:
        hosts.agree(lambda: check_metric(config.targets.metric, config.targets.time_limit))
        hosts.agree(lambda: _claim(options, held) if hosts.first else None)
        about = _about(config, corpus, placement, source, initial)
        networks = hosts.agree(lambda: network_factory(config, None))
        state, position = hosts.agree(
            lambda: _begin(config, corpus, options, placement, about, display, initial, networks)
        )
        _refuse_apart(hosts, about, position.step)
        hosts.agree(lambda: write_json(options.folder / ABOUT, about) if hosts.first else None)
        run = hosts.agree(
            lambda: Trainer(config, corpus, options.folder, placement, state, position, about, display, network_factory)
        )
        return run.train()


def _claim(options: RunOptions, held: ExitStack) -> None:
    """Create and lock the folder for this run, until `held` is closed."""
    refuse_occupied(options)
    options.folder.mkdir(parents=True, exist_ok=True)
    held.enter_context(lock.hold(options.folder))
    if options.overwrite:
        clear(options.folder)


def _refuse_apart(hosts: Hosts, about: dict[str, Any], step: int) -> None:
    """Check that all hosts would do the same step of the same run.

    Raises:
        UserError: hosts differ from the first one; raised on every host, with the differences.
    """
    mine = {
        "config": about["config"],
        "corpus": about["provenance"]["data"]["fingerprint"],
        "number of devices": about["devices"],
        "start": (start_of(about) or {}).get("digest"),
        "checkpoint to go on from": step,
    }
    first, *others = map(json.loads, hosts.tell(json.dumps(mine)))
    apart = [
        f"  host {index} has another {name} than host 0"
        for index, other in enumerate(others, 1)
        for name in mine
        if other[name] != first[name]
    ]
    if apart:
        remedy = "give all the same command, and folders of data and of the run that all hosts share"
        raise UserError("\n".join([f"the hosts are not in one run; {remedy}:", *apart]))


def asked(
    config: Config, corpus: Corpus, start: Start | None, saved: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The part of run.json that identifies a run, for `identity.differences`.

    Args:
        config: the run's configuration.
        corpus: the corpus.
        start: initial weights; None: random weights.
        saved: record to compare with, whose rule for fingerprints is followed.

    Raises:
        UserError: an environment variable that makes scores fail is not a number from 0 to 1, or the target metric
            cannot be found.
    """
    return {
        "config": to_dict(config),
        "target_metric": Scale.of(find_metric(config.targets.metric)).to_dict(),
        "start": dict(start.about) if start else None,
        # The environment may override the config's values.
        "injected_failures": dict(zip(("samples", "batches"), injection_shares(config.targets), strict=True)),
        "provenance": {"data": {"fingerprint": known_as(corpus, saved), "description": corpus.describe()}},
    }


def _about(
    config: Config, corpus: Corpus, placement: Placement, source: dict[str, Any] | None, initial: Start | None
) -> dict[str, Any]:
    return asked(config, corpus, initial) | {
        "source": source,
        "devices": len(placement.devices),
        "hosts": placement.hosts.count,
        "provenance": provenance.describe(corpus.fingerprint, corpus.describe(), corpus.division),
    }


def _begin(
    config: Config,
    corpus: Corpus,
    options: RunOptions,
    placement: Placement,
    about: dict[str, Any],
    display: Display,
    initial: Start | None,
    networks: Networks,
) -> tuple[TrainState, Position]:
    """State and position from which the run continues: those of the newest undamaged checkpoint, or of step 0."""
    found, saved = None, about
    if options.resume:
        found, damaged = checkpoint.newest_whole(options.folder)
        saved = checkpoint.read_run(found) if found else read_about(options.folder)
        if initial is None:
            about["start"] = start_of(saved)
        wanted = asked(config, corpus, initial, saved) | {"start": about["start"]}
        refuse_differences(wanted, saved)
        refuse_other_division(corpus, saved)
        if initial is not None and saved.get("start"):
            about["start"] = saved["start"] | {"origin": initial.about["origin"]}  # they may have been moved
        if known_as(corpus, saved) != corpus.fingerprint:
            display.note("the run knew its corpus by names and sizes only; from now on the content of its files counts")
        for line in damaged:
            display.note(f"{line}; it is left out")
        display.note(f"going on from {found}" if found else f"{options.folder}: no checkpoint yet, so from step 0")
        # The record of imported weights has no devices.
        if (before := saved.get("devices", about["devices"])) != about["devices"]:
            display.note(f"devices: {about['devices']} instead of {before}; results are equal but for rounding")
    if found:
        return checkpoint.restore(found, config, placement, networks), Position.from_dict(saved["position"])
    if initial is None and about["start"] is not None:
        raise UserError(
            f"{options.folder}: no checkpoint yet, and the run began with {start_in_words(about)}: name that with "
            "--start, or begin anew with --overwrite"
        )
    return placement.replicate(initial.state(config, networks) if initial else initialise(config, networks)), Position()
