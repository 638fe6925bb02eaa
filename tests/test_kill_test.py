"""SIGKILL, also during saves: what is resumed ends bit for bit as what was never killed."""

from pathlib import Path

import pytest
from rich.console import Console

from experiments.kill_test import Arguments, differences, kill_and_resume


@pytest.mark.timeout(1200)
@pytest.mark.subprocess
@pytest.mark.slow
def test_killed_and_resumed_runs_end_as_an_unbroken_one(tmp_path: Path) -> None:
    """Half a dozen starts, each in seconds once the programs are in the cache."""
    out = tmp_path / "kill-test"
    kills, faults = kill_and_resume(
        Arguments(kills=4, kills_a_run=4, out=out, seed=3, steps=4, save_every="1steps"), Console(quiet=True)
    )
    assert faults == []
    assert len(kills) == 4
    # It went on from checkpoints, and not from the beginning each time.
    assert any(kill.kept for kill in kills)
    assert all(kill.reached - (kill.kept or 0) <= 2 for kill in kills if kill.kept)
    # The comparison is one that can fail.
    metrics = out / "run1" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"generator_loss": 0.', '"generator_loss": 0.1', 1))
    assert differences(out / "unbroken", out / "run1") == ["metrics.jsonl at steps [1]"]
