"""A power loss: what bears its final name has its content on the disk, and so has what a checkpoint counts on."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
from test_enhance import noise
from test_enhance_cli import processor

from cmgan_jax.cli.import_torch import write_run
from cmgan_jax.data import audio, manifest
from cmgan_jax.inference.files import Job, enhance_file
from cmgan_jax.interop.torch_writer import write_torch_file
from cmgan_jax.system.outputs import settle, write_json
from cmgan_jax.training import pictures
from cmgan_jax.training.checkpoint import CheckpointStore
from cmgan_jax.training.divergence import set_aside
from cmgan_jax.training.records import METRICS, Recorder

SIGNAL = np.zeros(16_000, np.float32)


class Disk:
    """Watches what a process asks of the disk: which files were synced, and which renamed before they were."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.synced: dict[tuple[int, int], tuple[int, int]] = {}
        self.too_early: list[str] = []
        self.names_not_synced: dict[str, str] = {}
        self.renamed: list[str] = []
        sync, replace, rename = os.fsync, os.replace, os.rename

        def watched_sync(file: int) -> None:
            sync(file)
            status = os.fstat(file)
            self.synced[status.st_dev, status.st_ino] = (status.st_mtime_ns, status.st_size)
            self.names_not_synced.pop(os.path.realpath(f"/proc/self/fd/{file}"), None)

        def watched(act: Callable[..., None]) -> Callable[..., None]:
            def call(source: Any, target: Any, **options: Any) -> None:
                source, target = Path(source), Path(target)
                # Orbax gives its own folders their names before ours is complete; what is deleted needs no disk.
                if "unfinished" not in str(target):
                    self._look(source, target)
                act(source, target, **options)

            return call

        patch.setattr(os, "fsync", watched_sync)
        patch.setattr(os, "replace", watched(replace))
        patch.setattr(os, "rename", watched(rename))

    def _look(self, source: Path, target: Path) -> None:
        self.renamed.append(target.name)
        self.names_not_synced[os.path.realpath(target.parent)] = str(target)
        for path in (source, *source.rglob("*")):
            status = path.stat()
            if self.synced.get((status.st_dev, status.st_ino)) != (status.st_mtime_ns, status.st_size):
                self.too_early.append(f"{path.relative_to(source.parent)} -> {target}")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    with monkeypatch.context() as patch:
        yield Disk(patch)


def enhance(folder: Path) -> None:
    soundfile.write(folder / "in.wav", noise(16_000), 16_000)
    enhance_file(processor(), Job(folder / "in.wav", folder / "out.wav", "in"))


def save_checkpoint(folder: Path) -> None:
    store = CheckpointStore(folder)
    store.save(3, {"x": jax.numpy.ones(3)}, {"position": {}}, best=True)  # pyright: ignore[reportArgumentType]
    store.close()
    assert store.failure(wait=True) is None


def corpus(folder: Path) -> None:
    (folder / "new").mkdir()
    audio.write(folder / "new" / "a.wav", SIGNAL, 16_000)
    entry = manifest.describe(folder / "new" / "a.wav", folder / "new")
    manifest.write(folder / "new", manifest.build("x", [entry], {}))
    (folder / "new" / "COPYRIGHT").write_text("words")
    settle(folder / "new", folder / "corpus")


WRITERS: dict[str, tuple[Callable[[Path], Any], set[str]]] = {
    "JSON": (lambda folder: write_json(folder / "run.json", {"a": 1}), {"run.json"}),
    "records": (lambda folder: Recorder(folder, 0).close(), {METRICS}),
    "checkpoint": (save_checkpoint, {"3"}),
    "imported": (
        lambda folder: write_run(folder / "run", {}, {"x": jax.numpy.ones(3)}, 5),  # pyright: ignore[reportArgumentType]
        {"run.json", "5", "run"},
    ),
    "recording": (lambda folder: audio.write(folder / "a.wav", SIGNAL, 16_000), {"a.wav"}),
    "enhanced": (enhance, {"out.wav"}),
    "corpus": (corpus, {"a.wav", manifest.NAME, "corpus"}),
    "PyTorch": (lambda folder: write_torch_file(folder / "a.pt", {"x": SIGNAL}), {"a.pt"}),
    "batch": (lambda folder: set_aside(folder, {"clean": SIGNAL}, step=1), {"not_finite_1.npz"}),
    "picture": (lambda folder: pictures.save(folder, "clean", "a", SIGNAL + 0.1, 1.0, 16_000), {"clean-a.png"}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_content_is_on_the_disk_before_its_name(disk: Disk, tmp_path: Path, kind: str) -> None:
    """Every file below what is renamed, as it is at that moment; afterwards the folder that has the new name."""
    write, names = WRITERS[kind]
    write(tmp_path)
    assert names <= set(disk.renamed)
    assert not disk.too_early
    assert not disk.names_not_synced
