"""How fast recordings are enhanced, and in what memory, by window and batch: one long file, and many short ones."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.table import Table

from cmgan_jax.benchmarking.clock import Timing
from cmgan_jax.benchmarking.material import make_crops
from cmgan_jax.benchmarking.memory import peak_rss, reset_peak
from cmgan_jax.config import Config
from cmgan_jax.inference.enhance import WindowConfig, enhance_padded, layout, network
from cmgan_jax.inference.processor import Processor
from cmgan_jax.models.networks import make_networks
from cmgan_jax.training.state import initialise

SHORTEST, LONGEST = 2.0, 6.0
"""Seconds of short files, evenly spread: as those of VoiceBank+DEMAND's test set."""
LONG, SHORT = "a long file", "short files"


class Material(NamedTuple):
    """Waveforms float32[S] to be enhanced, one after another."""

    name: str
    waves: tuple[np.ndarray, ...]

    def seconds(self, sample_rate: int) -> float:
        """Of audio altogether."""
        return sum(wave.size for wave in self.waves) / sample_rate


def make_material(minutes: float, files: int, sample_rate: int) -> tuple[Material, ...]:
    """One long recording, and many short ones of different lengths; what is empty is left out."""
    piece = make_crops(1, LONGEST, sample_rate)["noisy"][0]
    long = np.resize(piece, round(60 * minutes * sample_rate))
    lengths = (np.linspace(SHORTEST, LONGEST, files) * sample_rate).astype(int)
    found = Material(LONG, (long,) if long.size else ()), Material(SHORT, tuple(piece[:n] for n in lengths))
    return tuple(material for material in found if material.waves)


@dataclass(frozen=True)
class Enhanced:
    """One material in one way.

    Attributes:
        side: `jax`, or what it is compared with.
        precision: in which it computes.
        material: name of what was enhanced.
        audio: seconds of it.
        window: seconds of a window.
        batch: windows at once.
        timing: seconds that it took.
        temporaries: bytes of the program for a batch of windows, XLA's count; None where nobody counts.
        rss: highest resident set of the process meanwhile, in bytes; it holds the runtime and compiled programs too.
    """

    side: str
    precision: str
    material: str
    audio: float
    window: float
    batch: int
    timing: Timing
    temporaries: int | None
    rss: int

    @property
    def pace(self) -> float:
        """Seconds of audio a second."""
        return self.audio / self.timing.median

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "pace": self.pace, "real_time_factor": 1 / self.pace}


class Ours:
    """A material through the generator of a config with random weights, at one window and batch.

    Attributes:
        rss: peak of the resident set in the last run, in bytes.
    """

    def __init__(self, config: Config, material: Material, window: float, batch: int):
        self.rss = 0
        self._config, self._material = config, material
        self._windows = WindowConfig(whole=window, window=window, batch=batch)
        self._variables = initialise(config).validated
        seconds = [wave.size / config.spectral.sample_rate for wave in material.waves]
        self._processor = Processor(network(self._variables, config, self._windows, seconds))

    @property
    def temporaries(self) -> int | None:
        """Bytes of the program that enhances a batch of windows; None where the compiler does not tell."""
        spectral = self._config.spectral
        of = layout(self._windows, spectral)
        padded = jax.ShapeDtypeStruct((of.batch, of.length + spectral.n_fft), np.float32)
        frames = jax.ShapeDtypeStruct((of.batch,), np.int32)
        compiled = enhance_padded.lower(
            self._variables, padded, frames, config=self._config, networks=make_networks(self._config)
        ).compile()
        memory = compiled.memory_analysis()
        return None if memory is None else memory.temp_size_in_bytes

    def warm_up(self) -> None:
        """Compile every shape."""
        self._processor.network.warm_up()

    def run(self) -> float:
        """Enhance it; seconds."""
        reset_peak()
        began = time.perf_counter()
        for wave in self._material.waves:
            self._processor.enhance(wave, self._processor.sample_rate)
        seconds, self.rss = time.perf_counter() - began, peak_rss()
        return seconds


def cut(material: Material, config: Config, window: float, batch: int) -> list[np.ndarray]:
    """The same windows as arrays float32[windows, S], for what cannot cut: short files whole, a long one in windows."""
    of = layout(WindowConfig(whole=window, window=window, batch=batch), config.spectral)
    pieces = []
    for wave in material.waves:
        if wave.size <= of.length:
            # Whole hops, as every transform wants them.
            pieces.append(np.pad(wave, (0, -wave.size % of.hop))[None])
            continue
        starts = [*range(0, wave.size - of.length, of.step), wave.size - of.length]
        pieces.append(np.stack([wave[start : start + of.length] for start in starts]))
    return pieces


def enhancement_table(rows: Sequence[Enhanced], preset: str) -> Table:
    """Every row, ordered as measured."""
    table = Table(title=f"enhancement, preset {preset}", title_justify="left")
    for name in (
        "what",
        "side",
        "precision",
        "window, s",
        "batch",
        "seconds",
        "× real time",
        "temporaries, MB",
        "RSS, MB",
    ):
        table.add_column(name, justify="left" if name in ("what", "side", "precision") else "right")
    for row in rows:
        table.add_row(
            f"{row.material} ({row.audio:.0f} s)",
            row.side,
            row.precision,
            f"{row.window:g}",
            str(row.batch),
            f"{row.timing.median:.2f}",
            f"{row.pace:.2f}",
            "–" if row.temporaries is None else f"{row.temporaries / 1e6:.0f}",
            f"{row.rss / 1e6:.0f}",
        )
    return table
