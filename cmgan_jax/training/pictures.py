"""How two held-out files sound over the epochs, as spectrograms in the run folder."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cmgan_jax.report import spectrogram
from cmgan_jax.system.outputs import replacing

FOLDER = "report"
SECONDS = 4.0
"""Of a file, from its start."""
CLEAN, NOISY = "clean", "noisy"


def save(folder: Path, moment: str, name: str, signal: np.ndarray, reference: float, rate: int) -> None:
    """Write one picture.

    Args:
        folder: the run folder.
        moment: `clean`, `noisy` or as `of_epoch` says it.
        name: the file's.
        signal: float32[S].
        reference: power that has the brightest colour, `loudest` of the clean file.
        rate: Hz.
    """
    path = folder / FOLDER / f"{moment}-{_plain(name)}.png"
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(spectrogram.image(_spectra(signal, rate), reference))


def loudest(clean: np.ndarray, rate: int) -> float:
    """The highest power of a clean file: the scale of every picture of it, so that these compare."""
    return float(_spectra(clean, rate).max())


def of_epoch(epoch: int) -> str:
    """How an epoch is written in a picture's name."""
    return f"epoch-{epoch:03d}"


def pick(folder: Path, name: str, epochs: int, most: int = 6) -> dict[str, bytes]:
    """Pictures of a file for a page.

    Args:
        folder: the run folder.
        name: the file's.
        epochs: that have ended.
        most: pictures of epochs, evenly spread, the first and the last among them.

    Returns:
        PNG by what is seen, in the order noisy, epochs, clean; those that were not written are absent.
    """
    places = dict.fromkeys(np.linspace(1, epochs, min(most, epochs)).round().astype(int).tolist())
    moments = {NOISY: NOISY, **{f"epoch {epoch}": of_epoch(epoch) for epoch in places}, CLEAN: CLEAN}
    paths = {label: folder / FOLDER / f"{moment}-{_plain(name)}.png" for label, moment in moments.items()}
    return {label: path.read_bytes() for label, path in paths.items() if path.exists()}


def save_epoch(
    folder: Path,
    epoch: int,
    files: Sequence[tuple[str, np.ndarray, np.ndarray]],
    enhanced: Mapping[str, np.ndarray],
    rate: int,
) -> None:
    """Write the pictures of an epoch; those of the noisy and the clean files, where they are not there yet.

    Args:
        folder: the run folder.
        epoch: counted from 1.
        files: (name, clean, noisy) of those to be shown.
        enhanced: by name.
        rate: Hz.
    """
    for name, clean, noisy in files:
        reference = loudest(clean, rate)
        save(folder, of_epoch(epoch), name, enhanced[name], reference, rate)
        for moment, signal in ((CLEAN, clean), (NOISY, noisy)):
            if not (folder / FOLDER / f"{moment}-{_plain(name)}.png").exists():
                save(folder, moment, name, signal, reference, rate)


def _spectra(signal: np.ndarray, rate: int) -> np.ndarray:
    """Power [128, columns]: pairs of bins together, which halves the pictures."""
    bins = spectrogram.power(signal[: round(SECONDS * rate)])[1:]
    return bins.reshape(-1, 2, bins.shape[1]).mean(axis=1)


def _plain(name: str) -> str:
    """A name with nothing in it that a file system or a page could mind."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
