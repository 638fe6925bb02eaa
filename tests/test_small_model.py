"""The small model that comes with the package: how it is trained, packed, described and used."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cmgan_jax import metrics
from cmgan_jax.cli import _cli, enhance
from cmgan_jax.errors import UserError
from cmgan_jax.inference.enhancer import Enhancer
from cmgan_jax.inference.weights import SHIPPED, load
from cmgan_jax.models.networks import make_networks
from cmgan_jax.recipes import make_config
from experiments import model_card, other_sounds, package_model, small_model
from experiments.small_model import Arguments, command, held_out
from experiments.strength_study import band, choose, table

RATE = 16_000
PAIRS = Path("../shared/voicebank/test")
MOST_BYTES, MOST_PARAMETERS = 2_000_000, 400_000
"""What issue 19 allows the weights to be."""


def make_corpus(folder: Path, speakers: int = 20) -> Path:
    for speaker in range(speakers):
        place = folder / "speech" / "vctk" / f"p{speaker:03}"
        place.mkdir(parents=True)
        soundfile.write(place / "a.wav", np.zeros(RATE, np.float32), RATE)
    (folder / "noise").mkdir()
    soundfile.write(folder / "noise" / "rain.wav", np.zeros(RATE, np.float32), RATE)
    return folder


def flags(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            found[word] = []
        elif found:
            found[list(found)[-1]].append(word)
    return found


def test_every_tenth_speaker_is_held_out(tmp_path: Path) -> None:
    source = small_model.folders((make_corpus(tmp_path),))
    assert held_out(source) == ["p000", "p010"]


def test_the_first_stage_has_no_discriminator_and_the_second_begins_with_it(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    first = flags(command(Arguments((corpus,), tmp_path / "runs")))
    assert first["--targets.every"] == first["--loss.adversarial"] == ["0"]
    assert first["--data.validation-speakers"] == ["p000", "p010"]
    with pytest.raises(UserError, match="train --stage losses first"):
        command(Arguments((corpus,), tmp_path / "runs", "metric"))
    second = flags(command(Arguments((corpus,), tmp_path / "runs", "metric", start=SHIPPED)))
    assert second["--start"] == [str(SHIPPED)]
    assert "--targets.every" not in second


def test_a_folder_without_a_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no speech"):
        small_model.folders((tmp_path,))


def test_the_shipped_weights_are_small_and_of_the_preset() -> None:
    weights = load()
    assert weights.label == "the small model of the package"
    assert SHIPPED.stat().st_size <= MOST_BYTES
    assert weights.config.generator == make_config(preset="small").generator
    assert weights.config.inference == make_config(preset="small").inference
    shapes = make_networks(weights.config, None)
    assert type(weights.generator) is type(shapes.generator)
    count = sum(leaf.size for leaf in package_model._leaves(weights.variables["params"]))
    assert count <= MOST_PARAMETERS


@pytest.mark.slow
def test_enhance_needs_neither_a_checkpoint_nor_a_folder_for_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real recording: PESQ and SI-SDR rise."""
    if not PAIRS.is_dir():
        pytest.skip("the real pairs are not here")
    source = sorted((PAIRS / "noisy").iterdir())[0]
    clean, rate = soundfile.read(PAIRS / "clean" / source.name)
    monkeypatch.chdir(tmp_path)
    local = tmp_path / source.name
    local.write_bytes(Path(__file__).parent.parent.joinpath(source).resolve().read_bytes())
    monkeypatch.setattr(sys, "argv", ["enhance", local.name])
    with pytest.raises(SystemExit) as left:
        _cli.run(enhance.main)
    assert left.value.code == 0
    noisy, _ = soundfile.read(local)
    enhanced, _ = soundfile.read(tmp_path / "enhanced" / source.name)
    assert metrics.pesq(clean, enhanced, rate) > metrics.pesq(clean, noisy, rate)
    assert metrics.si_sdr(clean, enhanced) > metrics.si_sdr(clean, noisy)


@pytest.mark.slow
def test_silence_stays_silence() -> None:
    assert not np.any(Enhancer().enhance(np.zeros(RATE, np.float32), RATE))


def summaries(value: float) -> dict[str, dict[str, float]]:
    return {measure: {"mean": value} for measure in model_card.MEASURES}


def record() -> dict[str, object]:
    systems = {"noisy": {"summary": summaries(1.0)}, "enhanced": {"summary": summaries(2.0)}}
    group = {"kind": "input_snr", "label": "0 to 5 dB", "files": 3}
    group["summaries"] = {"noisy": summaries(1.5), "enhanced": summaries(2.5)}
    return {"total": 7, "systems": systems, "groups": [group, {"kind": "speaker", "label": "p1", "files": 1}]}


def stage(steps: int, pesq: float) -> dict[str, object]:
    return {
        "config": {"batch": 4, "data": {"crop_seconds": 2.0}},
        "step": steps,
        "audio_seconds": 8.0 * steps,
        "revision": "0123456789abcdef",
        "noisy": {"score": 1.6, "si_sdr": 9.0, "files": 48},
        "epochs": [{"epoch": 1, "step": steps, "score": pesq, "si_sdr": 10.0, "loss": 0.2}],
    }


def test_the_card_has_the_figures_of_its_records() -> None:
    training = {"parameters": 12_345, "bytes": 1_500_000, "stages": [stage(100, 2.0), stage(50, 2.25)]}
    kinds = {"music": {"files": 1, "level": -7.0}, "clean": {"files": 3, "pesq": 4.5, "level": 0.0}, "silence": {}}
    others = {"strengths": {"auto": kinds, "1.0": kinds}}
    text = model_card.card(training, record(), record(), others)
    assert "| music | 1 | – | -7.0 | – | -7.0 |" in text
    assert "| clean | 3 | 4.50 | +0.0 | 4.50 | +0.0 |" in text
    assert "In no band does the mean PESQ or SI-SDR fall." in text
    assert "12,345 parameters, 1.5 MB" in text
    assert "1,200 seconds of audio in 150 steps" in text
    assert "| 800 | 2.000 | 10.00 | 0.2000 |" in text
    assert "| 1,200 | 2.250 | 10.00 | 0.2000 |" in text
    assert "| all 7 | enhanced | 2.000 | 2.00 | 2.00 | 2.00 | 2.000 | 2.0 |" in text
    assert "| 0 to 5 dB, 3 | noisy | 1.500 |" in text


def test_the_card_in_the_documents_is_that_of_the_records() -> None:
    names = package_model.TRAINING, package_model.HELD_OUT, package_model.VOICEBANK, package_model.OTHERS
    records = map(package_model.read_record, names)
    assert package_model.CARD.read_text() == model_card.card(*records)


def test_a_record_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_model, "RECORDS", tmp_path)
    with pytest.raises(UserError, match=r"training\.json cannot be read"):
        package_model.read_record("training.json")


@pytest.mark.parametrize(
    ("decibels", "name"), [(-3.0, "below 0 dB"), (0.0, "0 to 5 dB"), (19.9, "15 to 20 dB"), (30.0, "from 20 dB")]
)
def test_bands_of_input_snr(decibels: float, name: str) -> None:
    assert band(decibels) == name


def test_the_table_of_strengths_has_means_by_band() -> None:
    strengths = ("0.0", "0.25", "0.5", "0.75", "1.0", "auto")
    files = [
        {
            "input_snr": snr,
            "scores": {of: {"pesq": 1.0 + snr / 10 + i, "si_sdr": snr} for i, of in enumerate(strengths)},
        }
        for snr in (1.0, 3.0, 12.0)
    ]
    lines = table(files).splitlines()
    assert lines[2].startswith("| 0 to 5 dB | 2 | 1.200, 2.0 dB | 2.200, 2.0 dB |")
    assert lines[3].startswith("| 10 to 15 dB | 1 | 2.200, 12.0 dB |")
    assert lines[4].startswith("| all | 3 |")


def scored(estimated: float, snr: float, gain: float) -> dict[str, object]:
    """A file whose PESQ rises with the strength; its SI-SDR rises or falls with it, by `gain` dB at full strength."""
    measured = (0.0, 0.25, 0.5, 0.75, 1.0)
    scores = {str(s): {"pesq": 2.0 + s, "si_sdr": snr + gain * s} for s in measured}
    return {"input_snr": snr, "estimated_snr": estimated, "scores": scores}


def test_the_rule_of_auto_takes_as_much_as_harms_no_band() -> None:
    """Files of 2 dB gain, those of 22 dB lose: whole strength for the first, none for the others."""
    chosen = choose([scored(2.0, 2.0, 5.0), scored(18.0, 22.0, -5.0)])
    assert chosen["full_up_to"] >= 2
    assert chosen["least_from"] <= 18
    assert chosen["least"] == 0
    assert chosen["pesq"] == 2.5


def test_where_every_rule_harms_none_is_chosen() -> None:
    """Of the same estimate one file gains and the other loses, so only a rule without any strength would do."""
    files = [scored(-5.0, 2.0, 5.0), scored(-5.0, 22.0, -5.0)]
    assert choose(files) == {}


def test_bands_that_lose_are_named() -> None:
    falling: Any = record()
    falling["groups"][0]["summaries"]["enhanced"] = summaries(1.25)
    assert model_card.losses(falling) == (
        "The mean falls: PESQ by 0.250 in the band 0 to 5 dB; SI-SDR by 0.2 dB in the band 0 to 5 dB."
    )


def test_music_and_clipped_speech_are_what_they_say() -> None:
    tones = other_sounds.music()
    assert tones.shape == (4 * other_sounds.RATE,)
    assert np.max(np.abs(tones)) == pytest.approx(0.3)
    assert np.max(np.abs(other_sounds.clipped(tones))) == pytest.approx(0.3 * other_sounds.CLIPPED_SHARE)
    time = np.arange(RATE) / RATE
    low, middle = (np.sin(2 * np.pi * f * time) for f in (100.0, 1_000.0))
    assert other_sounds.level(other_sounds.telephone(low), low) < -20
    assert other_sounds.level(other_sounds.telephone(middle), middle) == pytest.approx(0, abs=0.3)
