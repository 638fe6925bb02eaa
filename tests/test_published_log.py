"""Text logs of the published trainer: its lines, what stands between them, and what is cut off."""

import gzip
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from published_logs import exact, ordinary, six, skipped, text_log, training

from cmgan_jax.diagnosis.history import History
from cmgan_jax.diagnosis.losses import losses_of
from cmgan_jax.diagnosis.numerals import style_of, whole
from cmgan_jax.diagnosis.published_log import parse_log
from cmgan_jax.diagnosis.published_training import LARGEST_TEXT, read_logs, read_text
from cmgan_jax.errors import UserError

STEP = "GPU: 0, Epoch 16, Step 1500, loss: 0.109, disc_loss: 0.000004\n"
TEST = "GPU: 0, Generator loss: 0.1086, Discriminator loss: 0.0068\n"


def history(tmp_path: Path, *texts: str | bytes) -> History:
    paths = [tmp_path / f"{i}.log" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_logs(paths)


def steps(text: str) -> list[tuple[float, ...]]:
    names = ("epoch", "step", "generator_loss", "discriminator_loss")
    return [tuple(row[name] for name in names) for row in parse_log(text).steps]


@pytest.mark.parametrize(
    "line",
    [
        STEP,
        "INFO:root:" + STEP,
        "2025-11-20 10:11:12,345 - INFO - " + STEP,
        "[rank0]: " + STEP.lower(),
        STEP.replace("\n", "\r\n"),
        STEP.replace("0.000004", "4e-06"),
        STEP.replace("GPU: 0, ", ""),  # the code of 2022
        STEP.replace("GPU: 0", "Device: cuda:0"),
        STEP.replace("0.000004", "tensor(0.000004, device='cuda:0')"),
        "\x1b[32m" + STEP.replace("\n", "\x1b[0m\n"),
        "\r 17%|█▋        | 500/2892 [12:01<57:10, loss=0.2, disc_loss=0.5]" + STEP,
        "  5%|▌ | 1/9 [00:01<00:09]\r" + STEP,
        STEP.replace("\n", ", PESQ: 2.1\n"),
    ],
)
def test_a_step(line: str) -> None:
    assert steps(line) == [(16, 1500, 0.109, 4e-6)]
    assert not parse_log(line).epochs


def test_lines_that_only_look_like_it_are_nothing() -> None:
    junk = (
        "loss: 0.1\n 5%|▌ | 500/9600 [00:01<1:00:00, loss=0.1, disc_loss=0.02]\nGPU: 0, out of memory\n[GPU 0: V100]\n"
    )
    parsed = parse_log(junk)
    assert (parsed.steps, parsed.epochs, parsed.torn) == ([], [], 0)


def test_several_processes_write_at_once() -> None:
    """Two records on a line; one torn open by another; a line of its own torn in two."""
    two = STEP.strip() + STEP.replace("GPU: 0", "GPU: 1")
    # The first number may be torn open by what follows it.
    assert len(steps(text_log(training(ordinary(3))) + two)) == 15 + 1
    six_digits = text_log(training(ordinary(3)), six) + two
    assert len(steps(six_digits)) == 15 + 2  # with a fixed number of digits it is seen to be whole
    torn = (
        "GPU: 0, Epoch 16, Step 500, loss: 0.1GPU: 1, Epoch 16, Step 500, loss: 0.2, disc_loss: 0.3\n, disc_loss: 0.4\n"
    )
    parsed = parse_log(torn)
    assert [row["device"] for row in parsed.steps] == ["1"]
    assert parsed.torn == 2


@pytest.mark.parametrize("printed", [exact, six])
def test_a_line_that_is_cut_is_left_out(printed) -> None:
    """However much of the last line is missing, no number is made up: least of all a loss of 0.0."""
    text = text_log(training(ordinary(3)), printed)
    body = text[: text.rindex("INFO:root:GPU: 0, Generator")]
    for cut in range(1, 30):
        torn = parse_log(body[: -1 - cut])
        assert steps(body)[:14] == steps(body[: -1 - cut])[:14], cut
        last = torn.steps[14:]
        assert all(row["discriminator_loss"] == pytest.approx(steps(body)[14][3], rel=1e-6) for row in last), cut
        assert len(torn.steps) + torn.torn == 15, cut


def test_a_line_cut_in_the_middle_of_the_file() -> None:
    lines = text_log(training(ordinary(4)), six).splitlines(keepends=True)
    where = next(i for i, line in enumerate(lines) if "Epoch 2, Step 1500" in line)
    lines[where] = lines[where][: lines[where].index("disc_loss") + len("disc_loss: 0.0")] + "\n"
    parsed = parse_log("".join(lines))
    assert (len(parsed.steps), parsed.torn) == (19, 1)
    assert all(row["discriminator_loss"] > 0 for row in parsed.steps)


def test_a_line_that_lost_its_epoch_stands_in_the_one_before() -> None:
    text = STEP + STEP.replace("Epoch 16, Step 1500", "Step 2000")
    assert [row[:2] for row in steps(text)] == [(16, 1500), (16, 2000)]


def test_losses_that_are_no_numbers(tmp_path: Path) -> None:
    found = history(tmp_path, STEP + STEP.replace("1500", "2000").replace("0.109", "nan").replace("0.000004", "inf"))
    assert np.isnan(found.step("generator_loss")).tolist() == [False, True]
    assert found.step("not_finite.discriminator_loss").tolist() == [0, 1]


def test_validation_belongs_to_the_epoch_of_its_device() -> None:
    """GPU 1 is late: its line comes when GPU 0 is in the next epoch."""
    text = "".join(
        [
            "GPU: 0, Epoch 3, Step 500, loss: 0.1, disc_loss: 0.01\n",
            "GPU: 1, Epoch 3, Step 500, loss: 0.1, disc_loss: 0.01\n",
            TEST,
            "GPU: 0, Epoch 4, Step 500, loss: 0.1, disc_loss: 0.01\n",
            TEST.replace("GPU: 0", "GPU: 1").replace("0.1086", "0.2086"),
        ]
    )
    found = [(row["epoch"], row["device"], row["validation.loss"]) for row in parse_log(text).epochs]
    assert found == [(3, "0", 0.1086), (3, "1", 0.2086)]


def test_epochs_too_short_for_a_step_line_are_counted() -> None:
    text = TEST + TEST + TEST.replace("0.1086", "0.0986") + TEST.replace("0.1086", "0.0886")
    assert [row["epoch"] for row in parse_log(text).epochs] == [0, 1, 2]  # the second is the first once more


@pytest.mark.parametrize(
    "line",
    [
        "GPU: 0, Test Gen loss: 0.1086, Disc loss: 0.0068, PESQ: 2.64\n",
        TEST.replace("\n", ", PESQ: 2.64\n"),
        "INFO:root:\n pesq: 2.64, csig: 4.3, cbak: 3.5, covl: 3.7, ssnr: 9.0, stoi: 0.94\n",
        "=====\nEpoch 16 Summary:\n  Train Loss: 0.1, Disc Loss: 0.01\n  Test Loss: 0.1086, Test PESQ: 2.64\n",
        "Epoch 16: validation PESQ: 2.64\n",
    ],
)
def test_pesq_where_a_trainer_prints_it(line: str, tmp_path: Path) -> None:
    found = history(tmp_path, STEP + line + "*** New best model saved! Loss: 0.1, best PESQ: 2.1 ***\n")
    assert (found.epoch("epoch").tolist(), found.epoch("validation.pesq").tolist()) == ([16], [2.64])


def test_steps_that_come_again_count_once(tmp_path: Path) -> None:
    """A resumed run goes back to the epoch that was interrupted; every line may also be printed by two handlers."""
    text = text_log(training(ordinary(4)))
    lines = text.splitlines(keepends=True)
    again = "".join(lines[: 1 + 6 * 2 + 3]) + "".join(lines[1 + 6 * 2 :])
    assert parse_log(again).steps == parse_log(text).steps
    doubled = "".join(line + line for line in lines)
    assert parse_log(doubled).steps == parse_log(text).steps
    assert parse_log(doubled).epochs == parse_log(text).epochs
    found = history(tmp_path, text, text)
    assert len(found.step("step")) == 20


def test_of_several_trainings_the_longest_is_judged(tmp_path: Path) -> None:
    short, long = (text_log(training(ordinary(count, seed=count)), devices=2) for count in (2, 5))
    for text in (short + long, long + short):
        found = history(tmp_path, text)
        assert found.epoch("epoch").tolist() == [0, 1, 2, 3, 4]
        assert len(found.step("step")) == 50
        assert "2 trainings" in " ".join(found.source.notes)


def test_devices_count_apart_and_validation_is_their_mean(tmp_path: Path) -> None:
    found = history(tmp_path, text_log(training(ordinary(3)), devices=4))
    assert np.unique(found.step("device")).tolist() == [0, 1, 2, 3]
    assert len(found.step("step")) == 60
    apart = (
        STEP + TEST + STEP.replace("GPU: 0", "GPU: 1") + TEST.replace("GPU: 0", "GPU: 1").replace("0.1086", "0.2086")
    )
    assert history(tmp_path, apart).epoch("validation.loss").tolist() == [pytest.approx(0.1586)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    assert history(tmp_path, STEP.encode(encoding)).step("discriminator_loss").tolist() == [4e-6]


def test_what_is_no_text_is_replaced(tmp_path: Path) -> None:
    assert history(tmp_path, b"\xff\x00\xfa junk\n" + STEP.encode()).step("step").tolist() == [1500]


def test_gzip_also_where_its_end_is_missing(tmp_path: Path) -> None:
    text = text_log(training(ordinary(6)))
    content = gzip.compress(text.encode())
    assert len(history(tmp_path, content).step("step")) == 30
    assert 10 < len(history(tmp_path, content[:-200]).step("step")) < 30
    with pytest.raises(UserError, match="damaged gzip"):
        history(tmp_path, content[:12])


def test_gzip_of_several_members_and_with_other_bytes_after_them(tmp_path: Path) -> None:
    """As `cat a.gz b.gz` makes them, as tape archives pad them, and as a broken copy ends."""
    first, second = (gzip.compress(STEP.replace("1500", str(step)).encode() + b"\n") for step in (500, 1000))
    for rest in (b"", b"\0" * 512, b"other bytes"):
        assert history(tmp_path, first + second + rest).step("step").tolist() == [500, 1000]
    assert history(tmp_path, first + second[:-12]).step("step").tolist() == [500]


@pytest.mark.parametrize("kind", ["one member", "many members", "not compressed"])
def test_a_log_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path, kind: str) -> None:
    """A hundredth of a limit of 256 MiB is on the disk, at most; and what is in memory stays below twice the limit."""
    path = tmp_path / "run.log"
    megabyte = gzip.compress(b"\n" * 2**20)
    match kind:
        case "one member":
            with gzip.open(path, "wb", compresslevel=1) as file:
                for _ in range(2 * LARGEST_TEXT >> 20):
                    file.write(b"\n" * 2**20)
        case "many members":
            path.write_bytes(megabyte * (2 * LARGEST_TEXT >> 20))
        case "not compressed":
            with path.open("wb") as file:
                file.truncate(1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"run.log: it has, or unpacks to, more than 256 MiB"):
            read_text(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * LARGEST_TEXT
    finally:
        tracemalloc.stop()


def test_the_batch_that_the_log_tells(tmp_path: Path) -> None:
    assert parse_log(text_log(training(ordinary(1)))).batch == 4
    assert parse_log("Configuration: {'epochs': 120, 'batch_size': 1}\n").batch == 1


def test_nothing_known_is_said_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("hello\n")
    with pytest.raises(UserError, match="no line of a training log"):
        read_logs([tmp_path])


# --- precision ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numerals", "decimals", "resolution"),
    [
        (["0.012345", "0.000004", "0.000000", "0.012340"], 6, 1e-6),
        (["0.0012345678901234", "0.0", "4.2e-06"], None, 0.0),
        (["0.0", "0.0"], None, 0.0),
        (["0.012345", "0.0", "0.01", "0.000004"], None, 1e-6),
        (["0.0123", "0.0000", "0.1200"], 4, 1e-4),
        ([], None, 0.0),
        (["nan"], None, 0.0),
    ],
)
def test_how_finely_losses_are_printed(numerals: list[str], decimals: int | None, resolution: float) -> None:
    style = style_of(numerals)
    assert (style.decimals, style.resolution) == (decimals, pytest.approx(resolution))


def test_a_style_of_its_own_is_not_taken_for_torn() -> None:
    """Trailing zeros now and then, in another place each time: nobody cut these."""
    odd = [("0.10", True), ("0.250", True), ("0.0120", True), ("0.4", True), ("0.70", True)]
    assert whole(odd)[1] == [True] * 5


def zeros(losses: np.ndarray, tmp_path: Path) -> str:
    return losses_of(history(tmp_path, text_log(training(losses), six))).zeros


def test_zeros_of_six_digits_are_skipped_or_rounded(tmp_path: Path) -> None:
    """Skipped: nothing is near 0.000001. Rounded: losses spread over decades down to 1e-8, 17 % of them below 5e-7."""
    assert zeros(skipped(12), tmp_path) == "skipped"
    assert zeros(skipped(12, 0.05), tmp_path) == "skipped"
    assert zeros(ordinary(12), tmp_path) == "none"
    rng = np.random.default_rng(4)
    assert zeros(10 ** rng.normal(-5.5, 0.8, (12, 5)), tmp_path) == "unclear"
    assert zeros(10 ** rng.uniform(-8, -2, (12, 5)), tmp_path) == "unclear"
    # Most are ordinary, but a quarter lies just above what is printed as 0: so may the zeros.
    near = ordinary(12)
    near.flat[:15], near.flat[15:24] = 3e-6, 1e-7
    assert zeros(near, tmp_path) == "unclear"


def test_zeros_of_a_full_float_are_skipped(tmp_path: Path) -> None:
    found = losses_of(history(tmp_path, text_log(training(skipped(12, 0.05)))))
    assert (found.zeros, found.zero) == ("skipped", pytest.approx(0.05))
    assert math.isclose(found.small, 0.05)
