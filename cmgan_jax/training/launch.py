"""From a command line's options to a run: fresh or resumed, in a folder that holds nothing else."""

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

# What a run that was killed in its first moments may leave.
_REMAINS = {lock.NAME, ABOUT + ".part"}


@dataclass(frozen=True)
class RunOptions:
    """What a command line asks of a run folder.

    Attributes:
        folder: the run folder.
        devices: how many of each host; 0: all that the batch divides over.
        resume: go on with the run that the folder holds.
        overwrite: delete the run that the folder holds.
    """

    folder: Path
    devices: int = 0
    resume: bool = False
    overwrite: bool = False


def refuse_occupied(options: RunOptions) -> None:
    """Check the folder against what is wished, before any work.

    Raises:
        UserError: a run is there and neither resume nor overwrite is asked; or nothing is there to resume.
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
    """A resumed run goes on with its own values, its own corpus and its own start.

    Args:
        asked: the record that run.json would have.
        saved: the record that the run has.

    Raises:
        UserError: every number that differs, the corpus, or what it began with.
    """
    if lines := differences(asked, saved):
        raise UserError(
            "--resume: this is not the same run; begin another with its own --out:\n"
            + "\n".join(f"  {line}" for line in lines)
        )


def known_as(corpus: Corpus, about: Mapping[str, Any] | None) -> str:
    """The fingerprint of a corpus by the rule that a run recorded it by: before, only names and sizes counted."""
    recorded = data_of(about or {}).get("fingerprint")
    return corpus.earlier_fingerprint if recorded == corpus.earlier_fingerprint else corpus.fingerprint


def refuse_other_division(corpus: Corpus, about: dict[str, Any]) -> None:
    """A resumed run holds out what it held out before: what has trained must not validate.

    Raises:
        UserError: other files train or validate than the run recorded. Earlier versions recorded only how many files
            there were.
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
    """Delete what a run folder holds but its lock, run.json last: until then it still counts as a run."""
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
    """Begin or resume a run, and train it to its end. Several hosts call this together, for one folder that all see.

    Args:
        config: the run's configuration.
        corpus: what it trains on, already checked.
        options: folder, devices, resume.
        display: what a person sees; the first host's.
        source: the command line's words for the corpus, recorded so that a resume needs none.
        initial: what the run begins with, as long as it has no checkpoint; None: random weights, or, of a run that is
            resumed, what it began with.
        network_factory: builds both networks; without it they are those that the config names.

    Raises:
        UserError: values or a metric that cannot work, a folder that is occupied, a resume that would not be the same
            run.
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
    """Make the folder this run's alone, until `held` is left."""
    refuse_occupied(options)
    options.folder.mkdir(parents=True, exist_ok=True)
    held.enter_context(lock.hold(options.folder))
    if options.overwrite:
        clear(options.folder)


def _refuse_apart(hosts: Hosts, about: dict[str, Any], step: int) -> None:
    """Hosts that would not do the same step of the same run must not begin.

    Raises:
        UserError: on every host: which one differs from the first, and in what.
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
    """What of run.json makes a run the run that it is, for `identity.differences`.

    Args:
        config: the run's configuration.
        corpus: what it trains on.
        start: what it begins with; None: random weights.
        saved: the record that it is to be compared with, whose rule for fingerprints is followed.

    Raises:
        UserError: an environment variable that makes scores fail is not a number from 0 to 1, or the target metric
            cannot be found.
    """
    return {
        "config": to_dict(config),
        "target_metric": Scale.of(find_metric(config.targets.metric)).to_dict(),
        "start": dict(start.about) if start else None,
        # The environment may set these beside the config.
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
    """What the run begins with: of the newest whole checkpoint, or of its first step."""
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
        # Imported weights have no devices to name.
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
