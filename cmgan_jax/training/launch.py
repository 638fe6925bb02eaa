"""From a command line's wishes to a run: fresh or resumed, in a folder that holds nothing else."""

import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.data.corpus import Corpus, sizes
from cmgan_jax.data.holdout import noise_held_out_before
from cmgan_jax.errors import UserError
from cmgan_jax.outputs import write_json
from cmgan_jax.recipes import flatten, from_dict, to_dict
from cmgan_jax.runs import ABOUT
from cmgan_jax.training import checkpoint, lock, provenance
from cmgan_jax.training.display import Display
from cmgan_jax.training.hosts import Hosts
from cmgan_jax.training.loop import Outcome, Run
from cmgan_jax.training.parallel import Placement, choose_devices
from cmgan_jax.training.pesq_targets import injection_shares
from cmgan_jax.training.position import Position
from cmgan_jax.training.state import TrainState, initialise

# What may change when a run goes on: how long, and how the host does its part.
FREE = {
    "epochs",
    "precision",
    "log_every",
    "save_every",
    "patience",
    "targets.workers",
    "targets.time_limit",
    "data.threads",
    "data.prefetch",
}

# What a run that was killed in its first moments may leave.
_REMAINS = {lock.NAME, ABOUT + ".part"}


@dataclass(frozen=True)
class Wishes:
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


def refuse_occupied(wishes: Wishes) -> None:
    """Check the folder against what is wished, before any work.

    Raises:
        UserError: a run is there and neither resume nor overwrite is asked; or nothing is there to resume.
    """
    folder = wishes.folder
    occupied = (folder / ABOUT).exists()
    if wishes.resume and wishes.overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    if wishes.resume and not occupied:
        raise UserError(f"{folder}: nothing to resume there (no {ABOUT}); leave --resume out to begin a run")
    lock.refuse_held(folder)
    if occupied and not (wishes.resume or wishes.overwrite):
        raise UserError(f"{folder} holds a run already: add --resume to go on with it, or --overwrite to delete it")
    if not occupied and folder.exists() and (not folder.is_dir() or not _REMAINS.issuperset(os.listdir(folder))):
        raise UserError(f"{folder} exists and is not a run folder: choose another --out")


def refuse_differences(config: Config, saved: Config, fingerprint: str, about: dict[str, Any]) -> None:
    """A resumed run goes on with its own numbers and its own corpus.

    Raises:
        UserError: every number that differs, or the corpus.
    """
    now, before = flatten(config), flatten(saved)
    differing = [
        f"  {name}: the run has {before[name]!r}, asked for {now[name]!r}"
        for name in now
        if now[name] != before[name] and name not in FREE
    ]
    if about["provenance"]["data"]["fingerprint"] != fingerprint:
        described = about["provenance"]["data"]["description"].replace("\n", "\n    ")
        differing.append("  corpus: other files, or other content of them; name the run's own with --data, which has")
        differing.append(f"    {described}")
    if differing:
        raise UserError(
            "--resume: this is not the same run; begin another with its own --out:\n" + "\n".join(differing)
        )


def known_as(corpus: Corpus, about: dict[str, Any]) -> str:
    """The fingerprint of a corpus by the rule that a run recorded it by: before, only names and sizes counted."""
    recorded = about["provenance"]["data"]["fingerprint"]
    return recorded if recorded == corpus.earlier_fingerprint else corpus.fingerprint


def refuse_other_division(corpus: Corpus, about: dict[str, Any]) -> None:
    """A resumed run holds out what it held out before: what has trained must not validate.

    Raises:
        UserError: other files train or validate than the run recorded; runs of before recorded numbers of files only.
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


def read_about(folder: Path) -> dict[str, Any]:
    """What run.json says of a run.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return json.loads((folder / ABOUT).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / ABOUT} cannot be read ({error}); the run cannot go on without it") from error


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
    wishes: Wishes,
    display: Display,
    source: dict[str, Any] | None = None,
    initial: TrainState | None = None,
) -> Outcome:
    """Begin or resume a run, and train it to its end. Several hosts call this together, for one folder that all see.

    Args:
        config: its numbers.
        corpus: what it trains on, already checked.
        wishes: folder, devices, resume.
        display: what a person sees; the first host's.
        source: the command line's words for the corpus, recorded so that a resume needs none.
        initial: networks to begin with; None: random weights.

    Raises:
        UserError: numbers that cannot work, a folder that is occupied, a resume that would not be the same run.
    """
    check(config)
    placement = Placement(choose_devices(wishes.devices, config.batch))
    hosts = placement.hosts
    _refuse_late(hosts, config)
    placement.connect()
    with ExitStack() as held:
        hosts.agree(lambda: _claim(wishes, held) if hosts.first else None)
        about = _about(config, corpus, placement, source)
        state, position = hosts.agree(lambda: _begin(config, corpus, wishes, placement, about, display, initial))
        _refuse_apart(hosts, about, position.step)
        hosts.agree(lambda: write_json(wishes.folder / ABOUT, about) if hosts.first else None)
        run = hosts.agree(lambda: Run(config, corpus, wishes.folder, placement, state, position, about, display))
        return run.train()


def _claim(wishes: Wishes, held: ExitStack) -> None:
    """Make the folder this run's alone, until `held` is left."""
    refuse_occupied(wishes)
    wishes.folder.mkdir(parents=True, exist_ok=True)
    held.enter_context(lock.hold(wishes.folder))
    if wishes.overwrite:
        clear(wishes.folder)


def _refuse_late(hosts: Hosts, config: Config) -> None:
    """Raises UserError: a late discriminator on several hosts."""
    if hosts.count > 1 and config.targets.late_discriminator:
        raise UserError(
            "--targets.late-discriminator is for one host: what is yet to be learnt lies on every host, and a "
            "checkpoint holds the first one's; leave it out, or leave out --distributed"
        )


def _refuse_apart(hosts: Hosts, about: dict[str, Any], step: int) -> None:
    """Hosts that would not do the same step of the same run must not begin.

    Raises:
        UserError: on every host: which one differs from the first, and in what.
    """
    mine = {
        "config": about["config"],
        "corpus": about["provenance"]["data"]["fingerprint"],
        "number of devices": about["devices"],
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


def _about(config: Config, corpus: Corpus, placement: Placement, source: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "config": to_dict(config),
        "source": source,
        "devices": len(placement.devices),
        "hosts": placement.hosts.count,
        # The environment may set these beside the config.
        "injected_failures": dict(zip(("samples", "batches"), injection_shares(config.targets), strict=True)),
        "provenance": provenance.describe(corpus.fingerprint, corpus.describe(), corpus.division),
    }


def _begin(
    config: Config,
    corpus: Corpus,
    wishes: Wishes,
    placement: Placement,
    about: dict[str, Any],
    display: Display,
    initial: TrainState | None,
) -> tuple[TrainState, Position]:
    """What the run begins with: of the newest whole checkpoint, or of its first step."""
    found, saved = None, about
    if wishes.resume:
        found, damaged = checkpoint.newest_whole(wishes.folder)
        saved = checkpoint.read_run(found) if found else read_about(wishes.folder)
        fingerprint = known_as(corpus, saved)
        refuse_differences(config, from_dict(saved["config"]), fingerprint, saved)
        refuse_other_division(corpus, saved)
        if fingerprint != corpus.fingerprint:
            display.note("the run knew its corpus by names and sizes only; from now on the content of its files counts")
        for line in damaged:
            display.note(f"{line}; it is left out")
        display.note(f"going on from {found}" if found else f"{wishes.folder}: no checkpoint yet, so from step 0")
        # Imported weights have no devices to name.
        if (before := saved.get("devices", about["devices"])) != about["devices"]:
            display.note(f"devices: {about['devices']} instead of {before}; results are equal but for rounding")
    if found:
        return checkpoint.restore(found, config, placement), Position.from_dict(saved["position"])
    return placement.replicate(initial or initialise(config)), Position()
