"""The display: a live panel on a terminal, plain lines elsewhere."""

import errno
import os
from io import StringIO, TextIOWrapper
from types import SimpleNamespace

import pytest
from rich.console import Console

from cmgan_jax.system.progress import duration
from cmgan_jax.training import display
from cmgan_jax.training.display import Display, Progress, facts

NUMBERS = {
    "generator_loss": 0.12345,
    "discriminator_loss": 0.01,
    "discriminator_update": 1.0,
    "score": 1.875,
    "valid_share": 0.875,
    "failures": {"timeout": 2, "no utterances": 1},
    "level_db": -0.26,
    "crops_per_second": 3.5,
    "score_wait_ms": 12.4,
}


def progress(step: int = 3) -> Progress:
    return Progress(epoch=0, epochs=2, step=step, steps=8, seconds_left=65.0, values=NUMBERS)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (18_600, "5 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations_as_a_person_says_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_facts_show_what_is_known() -> None:
    shown = facts(progress())
    assert shown["generator loss"] == "0.1235"
    assert shown["D updates made"] == "100 %"
    assert shown["PESQ of estimates"] == "1.88"
    assert shown["scores valid"] == "88 % (no utterances 1, timeout 2)"
    assert shown["output level"] == "-0.3 dB"
    assert shown["time left"] == "1 min 05 s"


def test_a_generator_that_learns_alone_shows_nothing_of_a_discriminator() -> None:
    shown = facts(Progress(0, 1, 1, 8, None, {"generator_loss": 0.5, "crops_per_second": 4.0}))
    assert list(shown) == ["generator loss", "not finite", "output level", "crops/s", "time left"]


def test_a_number_that_is_not_known_is_a_dash() -> None:
    """At the first step, or where no score of a window was valid."""
    shown = facts(Progress(0, 1, 0, 1, None, {}))
    assert {value.removesuffix(" %").removesuffix(" dB").removesuffix(" ms") for value in shown.values()} == {"–"}


def test_plain_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first at once, then one in ten seconds at most; each on a line of its own, without control characters."""
    clock = SimpleNamespace(now=5.0)
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: clock.now))
    out = StringIO()
    with Display(Console(file=out, width=40, soft_wrap=True)) as shown:
        shown.note("corpus: 12 files")
        for step, clock.now in ((1, 5.0), (2, 6.0), (3, 14.9), (4, 15.1)):
            shown.show(progress(step))
    first, *rest = out.getvalue().splitlines()
    assert first == "corpus: 12 files"
    assert [line.split(":")[0] for line in rest] == ["epoch 1/2, step 1/8", "epoch 1/2, step 4/8"]
    assert "crops/s 3.50" in rest[0]
    assert "\x1b" not in out.getvalue()


def test_notes_are_printed_as_they_are() -> None:
    """Square brackets and colons are in file names too."""
    out = StringIO()
    text = "skipped [bold]/data/[x]/a.wav[/x] :smile: [/nothing]"
    with Display(Console(file=out, soft_wrap=True)) as shown:
        shown.note(text)
    assert out.getvalue() == text + "\n"


def test_a_live_panel_on_a_terminal() -> None:
    """The panel holds every fact, notes stay above it, and the cursor comes back, also after an error."""
    out = StringIO()

    def fail() -> None:
        with Display(Console(file=out, force_terminal=True, width=120, color_system=None)) as shown:
            shown.show(progress())
            shown.note("a line that stays")
            raise ValueError("a step failed")

    with pytest.raises(ValueError, match="a step failed"):
        fail()
    text = out.getvalue()
    assert "epoch 1/2  step 3/8" in text
    for label, value in facts(progress()).items():
        assert f"{label} {value}" in text
    assert "a line that stays" in text
    assert text.rindex("\x1b[?25h") > text.index("\x1b[?25l")


class Gone(StringIO):
    """A terminal that is closed after a while."""

    gone = False

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(errno.EIO, "Input/output error")
        return super().write(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_goes_ends_nothing_and_is_told_of(terminal: bool) -> None:
    out = Gone()
    with Display(Console(file=out, force_terminal=terminal)) as shown:
        shown.note("corpus: 12 files")
        assert shown.lost is None
        out.gone = True
        shown.show(progress())
        shown.note("compiling")
    assert isinstance(shown.lost, OSError)
    assert shown.lost.errno == errno.EIO


def test_a_reader_that_goes_ends_nothing_and_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which rich itself makes the end of the program."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as pipe:
        monkeypatch.setattr("sys.stdout", TextIOWrapper(pipe, write_through=True))
        with Display() as shown:
            shown.note("corpus: 12 files")
        assert isinstance(shown.lost, BrokenPipeError)
