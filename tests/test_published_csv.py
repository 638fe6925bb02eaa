"""CSV logs of steps and of epochs: alone, together, torn, and as spreadsheets save them."""

from pathlib import Path

import numpy as np
import pytest
from published_logs import COLLAPSING, epoch_csv, ordinary, six, skipped, step_csv, text_log, training

from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.published_csv import parse_csv
from cmgan_jax.diagnosis.published_training import read_history

TRAINING = training(ordinary(12), COLLAPSING)


def history(folder: Path, **texts: str) -> History:
    for name, text in texts.items():
        (folder / f"{name}.csv").write_bytes(text.encode())
    return read_history([folder])


def test_steps_and_epochs_join(tmp_path: Path) -> None:
    found = history(tmp_path, training_step_log=step_csv(TRAINING), training_epoch_log=epoch_csv(TRAINING))
    assert found.step("discriminator_loss") == pytest.approx(TRAINING.discriminator.ravel(), abs=5e-7)
    assert found.epoch("validation.pesq") == pytest.approx(np.array(COLLAPSING))
    assert found.epoch("validation.loss") == pytest.approx(TRAINING.validation, abs=5e-7)
    assert found.epoch("train.generator_loss") == pytest.approx(TRAINING.generator.mean(1), abs=5e-7)
    assert found.epoch("best").tolist() == [1.0] * 12  # the loss falls in every epoch
    assert found.step("generator_rate")[0] == 5e-4
    assert found.source.resolution == pytest.approx(1e-6)


def test_each_alone(tmp_path: Path) -> None:
    steps, epochs = tmp_path / "a", tmp_path / "b"
    steps.mkdir()
    epochs.mkdir()
    # Without an epoch log the training loss is the mean of the logged steps.
    found = history(steps, steps=step_csv(TRAINING))
    assert found.epoch("train.generator_loss") == pytest.approx(TRAINING.generator.mean(1), abs=5e-7)
    assert np.isnan(found.epoch("validation.pesq")).all()
    assert history(epochs, epochs=epoch_csv(TRAINING)).step("discriminator_loss").size == 0


def test_a_step_in_both_kinds_of_log_counts_once(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text(text_log(TRAINING, six))
    found = history(tmp_path, steps=step_csv(TRAINING), epochs=epoch_csv(TRAINING))
    assert found.step("step").size == 60


@pytest.mark.parametrize("text", [step_csv(TRAINING), epoch_csv(TRAINING)], ids=["steps", "epochs"])
def test_a_row_that_is_cut_gives_no_number_of_its_own(text: str) -> None:
    """Whatever is missing of the last row, a value is there as it was or not at all."""
    whole = parse_csv(text)
    assert whole
    for cut in range(1, 70):
        torn = parse_csv(text[:-cut])
        assert torn, cut
        for found, expected in ((torn.steps, whole.steps), (torn.epochs, whole.epochs)):
            assert len(found) in (len(expected), max(len(expected) - 1, 0)), cut
            for row, known in zip(found, expected, strict=False):
                assert row.items() <= known.items(), cut


def test_a_row_that_is_cut_in_the_middle() -> None:
    lines = step_csv(TRAINING).splitlines()
    lines[30] = lines[30][: lines[30].rindex(",0.00050000") - 4]
    parsed = parse_csv("\n".join(lines) + "\n")
    assert parsed
    assert (len(parsed.steps), parsed.torn) == (59, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace("\r\n", "\n").rstrip("\n"),
        lambda text: text.replace("gen_loss", " Gen_Loss "),
        lambda text: text.split("\n", 1)[1],  # without its header
        lambda text: text + text.split("\n", 1)[0] + "\n",  # with another one
        lambda text: "\n\n" + text,
    ],
)
def test_as_others_save_it(change) -> None:
    for text in (step_csv(TRAINING), epoch_csv(TRAINING)):
        expected, found = parse_csv(text), parse_csv(change(text))
        assert expected
        assert found
        names = ("epoch", "step", "generator_loss", "discriminator_loss", "validation.pesq")
        for rows, known in ((found.steps, expected.steps), (found.epochs, expected.epochs)):
            assert [[row.get(name) for name in names] for row in rows] == [[row.get(n) for n in names] for row in known]


def test_an_epoch_that_comes_again_replaces_the_first() -> None:
    text = epoch_csv(TRAINING)
    again = text.splitlines()[3].replace("2.5300", "2.9900") + "\n"
    parsed = parse_csv(text + again)
    assert parsed
    assert [row["validation.pesq"] for row in parsed.epochs][2] == 2.99
    assert len(parsed.epochs) == 12


def test_a_pesq_of_0_is_none(tmp_path: Path) -> None:
    """Some trainers write 0 where no file could be scored; PESQ begins at 1."""
    found = history(tmp_path, epochs=epoch_csv(training(skipped(6), (2.0, 2.2, 0.0, 2.4, 0.0, 2.5))))
    assert np.isnan(found.epoch("validation.pesq")).tolist() == [False, False, True, False, True, False]
    assert "no PESQ could be computed in 2 epochs, the first being 2" in found.source.notes


def test_other_tables_are_none() -> None:
    assert parse_csv("name,score\na,1\n") is None
    assert parse_csv("epoch,step\n1,2\n") is None
    assert parse_csv("") is None
