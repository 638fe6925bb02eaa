"""Speed and memory of enhancement by window length and batch, for one long file and for many short ones."""

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
"""Shortest and longest short file in seconds, lengths evenly spread, similar to VoiceBank+DEMAND's test set."""
LONG, SHORT = "a long file", "short files"


class Material(NamedTuple):
    """Waveforms float32[S] to be enhanced, one after another."""

    name: str
    waves: tuple[np.ndarray, ...]

    def seconds(self, sample_rate: int) -> float:
        """Return the total duration of the audio in seconds."""
        return sum(wave.size for wave in self.waves) / sample_rate


def make_material(minutes: float, files: int, sample_rate: int) -> tuple[Material, ...]:
    """Make one long recording, and many short ones of different lengths; an empty material is left out."""
    piece = make_crops(1, LONGEST, sample_rate)["noisy"][0]
    long = np.resize(piece, round(60 * minutes * sample_rate))
    lengths = (np.linspace(SHORTEST, LONGEST, files) * sample_rate).astype(int)
    found = Material(LONG, (long,) if long.size else ()), Material(SHORT, tuple(piece[:n] for n in lengths))
    return tuple(material for material in found if material.waves)


@dataclass(frozen=True)
class Enhanced:
    """The measurement of one material, enhanced in one way.

    Attributes:
        side: `jax`, or the name of the baseline.
        precision: precision of the computation.
        material: name of what was enhanced.
        audio: duration of the audio in seconds.
        window: window length in seconds.
        batch: windows enhanced at once.
        timing: seconds taken.
        temporaries: bytes of temporary memory of the program for a batch of windows, as XLA counts them; None where
            unknown.
        rss: peak resident set size of the process meanwhile, in bytes, including the runtime and compiled programs.
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
        """Seconds of audio enhanced per second."""
        return self.audio / self.timing.median

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {**asdict(self), "pace": self.pace, "real_time_factor": 1 / self.pace}


class Ours:
    """Enhancement of a material by a generator with random weights, at one window length and batch.

    Attributes:
        rss: peak resident set size in the last run, in bytes.
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
        """Bytes of temporary memory of the program for a batch of windows; None where the compiler does not tell."""
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
        """Compile the program for every input shape."""
        self._processor.network.warm_up()

    def run(self) -> float:
        """Enhance the material and return the seconds taken."""
        reset_peak()
        began = time.perf_counter()
        for wave in self._material.waves:
            self._processor.enhance(wave, self._processor.sample_rate)
        seconds, self.rss = time.perf_counter() - began, peak_rss()
        return seconds


def cut(material: Material, config: Config, window: float, batch: int) -> list[np.ndarray]:
    """Cut the same windows as arrays float32[windows, S], for a baseline that cannot cut: short files stay whole."""
    of = layout(WindowConfig(whole=window, window=window, batch=batch), config.spectral)
    pieces = []
    for wave in material.waves:
        if wave.size <= of.length:
            # Whole hops, as every transform needs.
            pieces.append(np.pad(wave, (0, -wave.size % of.hop))[None])
            continue
        starts = [*range(0, wave.size - of.length, of.step), wave.size - of.length]
        pieces.append(np.stack([wave[start : start + of.length] for start in starts]))
    return pieces


def enhancement_table(rows: Sequence[Enhanced], preset: str) -> Table:
    """Make a table of all rows, in the order measured."""
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
