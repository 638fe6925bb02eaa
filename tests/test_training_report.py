"""The training report as text: what is in it, and that what is missing or hostile does no harm."""

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_records import made_up

from cmgan_jax.diagnosis.finding import Finding
from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.rules import apply_rules
from cmgan_jax.recipes import make_config
from cmgan_jax.training import pictures, report

CONFIG = make_config("recommended", "demo")
HOSTILE = "<img src=x onerror=alert(1)>"


def page(records: list[dict[str, Any]], findings: Any = (), seen: Any = None) -> str:
    return report.build("demo", CONFIG, records, findings, seen or {})


def test_everything_measured_has_its_curve() -> None:
    """Every number of a step record but the counters is drawn: its figure differs from that of a run without it."""
    records = made_up()
    whole = page(records)
    drawn = set(records[0]) | {"adversarial_share", "adversarial_cosine"}
    for name in drawn - {"kind", "step", "epoch", "failures"}:
        without = [{k: v for k, v in record.items() if k != name or record["kind"] == "epoch"} for record in records]
        assert page(without) != whole, name
    assert whole.count("<svg") == 16
    # The fifth epoch of the made-up run is the best, with 2.0 + 0.5.
    assert "epoch 8 of 3, best PESQ 2.50 in epoch 5" in whole


def test_nothing_is_fetched_and_nothing_runs() -> None:
    seen = {HOSTILE: {"noisy": b"png"}}
    hostile = {"kind": "finding", "step": 3, "code": "non_finite", "text": HOSTILE}
    text = page([*made_up(), hostile], [Finding("non_finite", HOSTILE)], seen)
    assert "default-src 'none'" in text
    assert HOSTILE not in text
    assert "<script" not in text
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {
        "data:image/png;base64," + base64.b64encode(b"png").decode()
    }


def test_findings_stand_first_and_what_was_said_stays() -> None:
    records = made_up()
    findings = apply_rules(History.from_records(records))
    said = {"kind": "finding", "step": 480, "code": "skipped_updates", "text": "one in ten was left out"}
    text = page([*records, said], findings)
    assert findings[0].code == "pesq_collapse"
    places = [text.index(what) for what in ("[pesq_collapse]", "step 480: one in ten was left out", "Validation PESQ")]
    assert places == sorted(places)


def test_failures_by_reason_with_their_share() -> None:
    """Eight epochs with 9 and 1 failures of 120 steps of two crops: 72 and 8 of 1920."""
    rows = re.findall(r"<tr>(<td>.*?)</tr>", page(made_up()))
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert cells == [["no_utterances", "9", "72", "3.8%"], ["timeout", "1", "8", "0.4%"]]
    clean = [record | {"train": {"failures": {}}} for record in made_up()]
    assert "No score of a training crop has failed." in page(clean)


def test_a_run_that_just_began_and_scored_nothing() -> None:
    """One epoch without a window, a PESQ, a pair or a picture."""
    numbers = {"pesq": None, "si_sdr": -3.0, "loss": None, "predicted": [], "pesq_targets": []}
    record = {"kind": "epoch", "step": 3, "epoch": 1, "train": {"failures": {}}, "validation": numbers, "noisy": {}}
    text = page([record])
    assert "no PESQ yet" in text
    assert text.count("Nothing measured yet.") == 15


def test_pictures_of_a_file_over_the_epochs(tmp_path: Path) -> None:
    """Of ten epochs six are picked, the first and the last among them; names become plain ones."""
    rng = np.random.default_rng(0)
    clean = rng.normal(0, 0.1, 8000).astype(np.float32)
    for epoch in range(1, 11):
        pictures.save_epoch(tmp_path, epoch, [("a/b c", clean, 2 * clean)], {"a/b c": clean / epoch}, 16_000)
    assert len(list((tmp_path / "report").iterdir())) == 12
    assert (tmp_path / "report" / "epoch-003-a_b_c.png").exists()
    found = pictures.pick(tmp_path, "a/b c", 10)
    assert list(found) == ["noisy", *(f"epoch {epoch}" for epoch in (1, 3, 5, 6, 8, 10)), "clean"]
    # The same file at the same scale: the first epoch is the clean file, the tenth is 20 dB quieter.
    assert found["epoch 1"] == found["clean"] != found["epoch 10"]
    assert all(content.startswith(b"\x89PNG") for content in found.values())


@pytest.mark.parametrize("epochs", [1, 2])
def test_few_epochs_have_a_picture_each(tmp_path: Path, epochs: int) -> None:
    for epoch in range(1, epochs + 1):
        pictures.save_epoch(tmp_path, epoch, [("a", np.ones(8000), np.ones(8000))], {"a": np.ones(8000)}, 16_000)
    assert len(pictures.pick(tmp_path, "a", epochs)) == epochs + 2
