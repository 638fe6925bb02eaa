"""Text logs of the published PyTorch trainer and of its derivatives.

    INFO:root:GPU: 0, Epoch 16, Step 1500, loss: 0.109, disc_loss: 0.000004
    INFO:root:GPU: 0, Generator loss: 0.1086, Discriminator loss: 0.0068

The second kind of line names no epoch: it belongs to that of the preceding steps on the same device. Logs also contain
progress bars, warnings and other prefixes; lines of several processes interleave, and any may be torn.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from cmgan_jax.diagnosis.numerals import NUMBER, Style, whole

_DEVICE = r"(?:(?:GPU|Device|Rank)\s*[:=]?\s*(?P<device>[\w:]+)\s*,\s*)?"
_EPOCH = r"(?:Epoch\s*[:=]?\s*\[?(?P<epoch>\d+)(?:/\d+)?\]?\s*,\s*)?"
_STEP = r"(?:Step\s*[:=]?\s*\[?(?P<step>\d+)(?:/\d+)?\]?\s*,\s*)?"


def _number(name: str) -> str:
    return rf"\s*[:=]\s*(?:tensor\()?(?P<{name}>{NUMBER})(?:,\s*device='[^']*')?\)?"


STEP = re.compile(
    rf"{_DEVICE}{_EPOCH}{_STEP}\b(?:gen_)?loss{_number('generator')}\s*,\s*disc_loss{_number('discriminator')}", re.I
)
TEST = re.compile(
    rf"{_DEVICE}{_EPOCH}(?:test\s*-?\s*)?\bgen(?:erator)?[ _]loss{_number('generator')}\s*,\s*"
    rf"disc(?:riminator)?[ _]loss{_number('discriminator')}(?:\s*,\s*PESQ{_number('pesq')})?",
    re.I,
)
SUMMARY = re.compile(rf"test loss{_number('generator')}\s*,\s*test pesq{_number('pesq')}", re.I)
PESQ = re.compile(rf"(?<!\w)(?:(?:test|val|valid|validation|avg|average|mean)[ _])*pesq{_number('pesq')}", re.I)
OTHER_PESQ = re.compile(r"best|noisy|train", re.I)
HEADING = re.compile(r"\bEpoch\s*[:=]?\s*\[?(\d+)", re.I)
HEAD = re.compile(r"GPU:\s*\d+\s*,\s*(?:Epoch|Step|Generator|Test)|Epoch\s+\d+\s*,\s*(?:Step|loss)", re.I)
TAIL = "disc_loss:"
BATCH = re.compile(r"\bbatch_size['\"]?\s*[:=]\s*(\d+)")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Parsed:
    """The records of one log file.

    Attributes:
        steps: `epoch`, `step`, `device`, `generator_loss`, `discriminator_loss`.
        epochs: `epoch`, `device`, and the known ones of `validation.*`, `train.*`, `best`.
        style: print format of discriminator losses.
        batch: crops per device and step, if the log tells.
        torn: number of lines that begin like a record but are not complete.
        runs: number of consecutive trainings in the file.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    style: Style = field(default_factory=lambda: Style(None, 0.0))
    batch: int | None = None
    torn: int = 0
    runs: int = 1


@dataclass
class _Run:
    """One training while its log is read: the current position of each device."""

    steps: dict[tuple[str, int, int], dict[str, Any]] = field(default_factory=dict)
    epochs: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    tested: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.steps) + len(self.epochs)

    def current(self, device: str) -> int:
        """Return a device's current epoch; for a device without logged steps, the latest of any device."""
        return self.last.get(device, max(self.last.values(), default=-1))

    def test(self, device: str, epoch: int | None, values: dict[str, Any]) -> None:
        if epoch is None:
            epoch = max(self.current(device), 0)
            done = self.tested.get(device, -1)
            if epoch <= done and self.epochs[device, done].items() >= values.items():
                return  # the same line again, from a second log handler
            if epoch <= done:
                epoch = done + 1  # an epoch so short that none of its steps was logged
        self.tested[device] = epoch
        self.epochs.setdefault((device, epoch), {"device": device, "epoch": epoch}).update(values)


def parse_log(text: str) -> Parsed:
    """Read a text log.

    Args:
        text: the whole file.

    Returns:
        Its records; empty if it is not such a log. Of several consecutive trainings, the longest is taken.
    """
    text = COLOURS.sub("", text.replace("\x00", ""))
    lines = text.splitlines(keepends=True)
    found = [(line, list(STEP.finditer(line))) for line in lines]
    numerals = [(match["discriminator"], _closed(match, line)) for line, matches in found for match in matches]
    style, flags = whole(numerals)
    complete = iter(flags)
    parsed = Parsed(style=style)
    runs = [_Run()]
    heading = None
    for line, matches in found:
        taken = 0
        for match in matches:
            is_whole, named = next(complete), match["epoch"] or match["step"]
            if is_whole and named:
                _take_step(runs, match)
            taken += bool(is_whole and named)
        if not matches:
            heading, taken = _take_other(runs[-1], line, heading)
        parsed.torn += max(len(HEAD.findall(line)) - taken, 0) or int(TAIL in line and not taken)
        if parsed.batch is None and (size := BATCH.search(line)):
            parsed.batch = int(size[1])
    longest = max(runs, key=len)
    parsed.steps, parsed.epochs = list(longest.steps.values()), list(longest.epochs.values())
    parsed.runs = sum(len(run) > 0 for run in runs)
    return parsed


def _take_step(runs: list[_Run], match: re.Match[str]) -> None:
    run, device = runs[-1], match["device"] or ""
    # A line whose epoch was lost gets that of the line before.
    epoch = int(match["epoch"]) if match["epoch"] else max(run.current(device), 0)
    if epoch < run.last.get(device, epoch) and epoch <= run.first[device]:
        run = _Run()
        runs.append(run)
    run.first.setdefault(device, epoch)
    run.last[device] = epoch
    step = int(match["step"]) if match["step"] else 0
    run.steps[device, epoch, step] = {
        "device": device,
        "epoch": epoch,
        "step": step,
        "generator_loss": float(match["generator"]),
        "discriminator_loss": float(match["discriminator"]),
    }


def _take_other(run: _Run, line: str, heading: int | None) -> tuple[int | None, int]:
    """Parse a line that is not a step; return the epoch that a heading names, and how many records were found."""
    taken = 0
    named = HEADING.search(line)
    if "summary" in line.lower() and named:
        heading = int(named[1])
    for match in TEST.finditer(line):
        if not _closed(match, line):
            continue
        values = {
            "validation.loss": float(match["generator"]),
            "validation.discriminator_loss": float(match["discriminator"]),
        }
        if match["pesq"]:
            values["validation.pesq"] = float(match["pesq"])
        run.test(match["device"] or "", int(match["epoch"]) if match["epoch"] else None, values)
        taken += 1
    if taken:
        return heading, taken
    if (match := SUMMARY.search(line)) and _closed(match, line):
        epoch = heading if heading is not None else max(run.current(""), 0)
        values = {"validation.loss": float(match["generator"]), "validation.pesq": float(match["pesq"])}
        run.epochs.setdefault(("", epoch), {"device": "", "epoch": epoch}).update(values)
        return heading, 1
    if (match := PESQ.search(line)) and not OTHER_PESQ.search(line[: match.start()]) and _closed(match, line):
        epoch = int(named[1]) if named else max(run.current(""), 0)
        row = run.epochs.setdefault(("", epoch), {"device": "", "epoch": epoch})
        row["validation.pesq"] = float(match["pesq"])
        return heading, 1
    return heading, 0


def _closed(match: re.Match[str], line: str) -> bool:
    """Whether something follows a record, so that its last number is not truncated by the end of the file."""
    return match.end() < len(line) and not re.match(r"[\w.]", line[match.end() :])
