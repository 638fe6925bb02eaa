"""How fast enhancement is: what is enhanced, how it is cut, and that both sides get the same windows."""

import io
import json
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from cmgan_jax.benchmarking.clock import Timing
from cmgan_jax.benchmarking.enhancement import Enhanced, Material, Ours, cut, enhancement_table, make_material
from cmgan_jax.cli import benchmark
from cmgan_jax.cli.benchmark import Arguments
from cmgan_jax.config import Config
from cmgan_jax.inference.enhance import enhance_padded
from cmgan_jax.recipes import make_config, override
from cmgan_jax.system.outputs import plain

SMALLEST = override(make_config("recommended", "tiny"), {"generator.blocks": 0, "generator.dense_depth": 0})


def test_material_is_as_long_as_was_wished() -> None:
    long, short = make_material(0.5, 5, 16_000)
    assert [wave.size for wave in long.waves] == [480_000]
    assert [wave.size for wave in short.waves] == [32_000, 48_000, 64_000, 80_000, 96_000]  # 2 to 6 s
    assert short.seconds(16_000) == 20.0
    assert make_material(0.0, 0, 16_000) == ()


def test_windows_overlap_as_ours_do() -> None:
    config = Config()
    wave = np.arange(40_000, dtype=np.float32)
    (windows,) = cut(Material("", (wave,)), config, window=1.0, batch=1)
    # A second in hops of 100; edges and fade of an eighth each: they advance by 5/8 of it, the last ends with the file.
    assert windows.shape == (4, 16_000)
    assert windows[:, 0].tolist() == [0.0, 10_000.0, 20_000.0, 24_000.0]
    (whole,) = cut(Material("", (wave[:15_950],)), config, window=1.0, batch=1)
    assert whole.shape == (1, 16_000)  # padded to whole hops


def test_pace_is_audio_over_time() -> None:
    row = Enhanced("jax", "fp32", "a long file", 480.0, 8.0, 1, Timing((120.0,)), 5_000_000, 7_000_000)
    assert (row.pace, row.to_dict()["real_time_factor"]) == (4.0, 0.25)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(enhancement_table([row], "paper"))
    assert "4.00" in console.export_text()


def test_ours_runs_and_counts_memory() -> None:
    ours = Ours(SMALLEST, make_material(0.0, 2, 16_000)[0], window=4.0, batch=2)
    ours.warm_up()
    programs = cast(Any, enhance_padded)._cache_size
    ready = programs()
    assert ours.run() > 0
    assert programs() == ready  # what is timed was compiled before
    assert ours.rss > 100e6  # an interpreter with JAX in it
    # At the least the spectra of two windows of 4 s: 321 × 401 numbers of eight bytes.
    assert (ours.temporaries or 0) > 2 * 321 * 401 * 8


def test_part_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "chosen", lambda arguments: SMALLEST)
    options = Arguments(
        part=("enhance",), batch=(4,), window=(1.0,), window_batch=(1,), minutes=0.1, files=2, repeats=1
    )
    found = json.loads(json.dumps(plain(benchmark.measure(options, Console(file=io.StringIO())))))
    assert [row["material"] for row in found["enhancement"]] == ["a long file", "short files"]
    assert [row["audio"] for row in found["enhancement"]] == [6.0, 8.0]
