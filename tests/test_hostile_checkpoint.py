"""Checkpoints made to have their reader go elsewhere, or read for ever: refused at once, with the reason."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmgan_jax.diagnosis.origin import describe
from cmgan_jax.errors import UserError
from cmgan_jax.inference.weights import load_checkpoint
from cmgan_jax.runs.folder import find, newest_whole, read_about, read_run
from cmgan_jax.system import checksums

TERABYTE = 1 << 40


def listing(name: str, size: Any = 0) -> Callable[[Path], Any]:
    """Lists another file."""

    def act(checkpoint: Path) -> None:
        path = checkpoint / checksums.NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: [size, "0"]}))

    return act


def linking(target: str, name: str = "state/extra") -> Callable[[Path], Any]:
    """Has a link, which is listed as well."""

    def act(checkpoint: Path) -> None:
        (checkpoint / name).unlink(missing_ok=True)
        (checkpoint / name).symlink_to(target)
        if name != checksums.NAME:
            listing(name)(checkpoint)

    return act


def holding(text: str) -> Callable[[Path], Any]:
    """Has another list."""
    return lambda checkpoint: (checkpoint / checksums.NAME).write_text(text) and None


def full_of_holes(name: str) -> Callable[[Path], Any]:
    """Has a file of a terabyte that takes no room on the disk."""

    def act(checkpoint: Path) -> None:
        if name != checksums.NAME:
            listing(name, TERABYTE)(checkpoint)
        with (checkpoint / name).open("wb") as file:
            file.truncate(TERABYTE)

    return act


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a device by its name": (listing("/dev/zero"), "names '/dev/zero', which is not inside"),
    "upwards": (listing("state/../../../secret", 6), "which is not inside"),
    "a name that is none": (listing("a\0b"), "names 'a"),
    "a size that is none": (listing("run/metadata", "many"), "bytes of many"),
    "a link to a device": (linking("/dev/zero"), "state/extra is a link"),
    "a link to a file elsewhere": (linking("../../../secret"), "state/extra is a link"),
    "a link to a folder": (linking("/proc"), "state/extra is a link"),
    "a pipe": (lambda checkpoint: os.mkfifo(checkpoint / "state" / "extra"), "state/extra is a link, a pipe or a dev"),
    "a file of holes": (full_of_holes("state/extra"), "more than any file of a checkpoint"),
    "a list without end": (linking("/dev/zero", checksums.NAME), "not a regular file"),
    "a list of holes": (full_of_holes(checksums.NAME), "larger than 16 MiB"),
    "a list nested without end": (holding("[" * 200_000), "cannot be read"),
    "a list of nothing": (holding("{}"), "names no file"),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Whole, as far as its sums go, beside a file that is none of its own."""
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "run" / "best" / "7"
    for name in ("state/data", "run/metadata"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text('{"config": {}, "provenance": {}}')
    checksums.write(folder)
    assert checksums.damage(folder) is None
    return folder


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_checkpoint_is_damaged(checkpoint: Path, how: str) -> None:
    act, said = HOSTILE[how]
    act(checkpoint)
    assert said in str(checksums.damage(checkpoint))
    with pytest.raises(UserError, match="is damaged"):
        load_checkpoint(checkpoint)
    with pytest.raises(UserError, match="no checkpoint is whole"):
        newest_whole(checkpoint.parents[1])
    assert said in describe(checkpoint)["damage"]


@pytest.mark.parametrize("kind", ["device", "pipe", "holes", "nested"])
def test_a_hostile_record_is_refused(checkpoint: Path, kind: str) -> None:
    """That of a checkpoint, and run.json."""
    run = checkpoint.parents[1]
    for path in (checkpoint / "run" / "metadata", run / "run.json"):
        path.unlink(missing_ok=True)
        match kind:
            case "device":
                path.symlink_to("/dev/zero")
            case "pipe":
                os.mkfifo(path)
            case "holes":
                with path.open("wb") as file:
                    file.truncate(TERABYTE)
            case "nested":
                path.write_text('{"a":' * 200_000)
    with pytest.raises(UserError, match="damaged"):
        describe(checkpoint)
    with pytest.raises(UserError, match="cannot be read"):
        read_run(find(checkpoint))
    with pytest.raises(UserError, match=r"run.json cannot be read"):
        read_about(run)
