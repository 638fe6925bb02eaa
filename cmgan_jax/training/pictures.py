"""Spectrograms of two held-out files over the epochs, saved in the run folder."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cmgan_jax.report import spectrogram
from cmgan_jax.system.outputs import replacing

FOLDER = "report"
SECONDS = 4.0
"""Length of the shown excerpt, from the start of a file."""
CLEAN, NOISY = "clean", "noisy"


def save(folder: Path, moment: str, name: str, signal: np.ndarray, reference: float, rate: int) -> None:
    """Write one picture.

    Args:
        folder: the run folder.
        moment: `clean`, `noisy` or the result of `of_epoch`.
        name: name of the file.
        signal: float32[S].
        reference: power that gets the brightest colour, from `loudest` of the clean file.
        rate: sample rate in Hz.
    """
    path = folder / FOLDER / f"{moment}-{_plain(name)}.png"
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(spectrogram.image(_spectra(signal, rate), reference))


def loudest(clean: np.ndarray, rate: int) -> float:
    """Highest power of a clean file, which sets the colour scale of all its pictures so that they are comparable."""
    return float(_spectra(clean, rate).max())


def of_epoch(epoch: int) -> str:
    """Name of an epoch in the file name of a picture."""
    return f"epoch-{epoch:03d}"


def pick(folder: Path, name: str, epochs: int, most: int = 6) -> dict[str, bytes]:
    """Select pictures of a file for a page.

    Args:
        folder: the run folder.
        name: name of the file.
        epochs: number of epochs that have ended.
        most: maximum number of epochs, evenly spaced and including the first and the last.

    Returns:
        PNG data by label, in the order noisy, epochs, clean; pictures that were not written are absent.
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
    """Write the pictures of an epoch, and those of the noisy and clean files if they do not exist yet.

    Args:
        folder: the run folder.
        epoch: counted from 1.
        files: (name, clean, noisy) of the files to show.
        enhanced: enhanced files by name.
        rate: sample rate in Hz.
    """
    for name, clean, noisy in files:
        reference = loudest(clean, rate)
        save(folder, of_epoch(epoch), name, enhanced[name], reference, rate)
        for moment, signal in ((CLEAN, clean), (NOISY, noisy)):
            if not (folder / FOLDER / f"{moment}-{_plain(name)}.png").exists():
                save(folder, moment, name, signal, reference, rate)


def _spectra(signal: np.ndarray, rate: int) -> np.ndarray:
    """Power spectrogram [128, columns]; pairs of bins are averaged, which halves the size of pictures."""
    bins = spectrogram.power(signal[: round(SECONDS * rate)])[1:]
    return bins.reshape(-1, 2, bins.shape[1]).mean(axis=1)


def _plain(name: str) -> str:
    """Replace characters of a name that may cause trouble in a file system or a web page."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
