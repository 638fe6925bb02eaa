"""Numbers as printed in logs: their resolution, and whether one was cut off in writing."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NUMBER = r"[-+]?(?:nan|inf(?:inity)?|\d+(?:\.\d*)?(?:e[-+]?\d+)?)"
"""Pattern of a printed float, to be matched case-insensitively."""

_EXACT_DECIMALS = 9
_MOST_TORN = 0.05
_PLAUSIBLE = 1.0


@dataclass(frozen=True)
class Style:
    """The print format of a column of values.

    Attributes:
        decimals: digits after the point, if all numbers have equally many; None for the shortest form.
        resolution: spacing of printed numbers; 0 means full precision.
    """

    decimals: int | None
    resolution: float

    def complete(self, numeral: str, closed: bool = True) -> bool:
        """Whether a numeral is complete.

        Args:
            numeral: the printed number.
            closed: whether something follows it; otherwise the file ends with it.
        """
        if not _is_plain(numeral):
            # nan and inf are words; an exponent is printed with two digits, of which one may be missing.
            return math.isnan(_value(numeral)) or math.isinf(_value(numeral)) or numeral[-2].isdigit()
        if self.decimals is not None:
            return _decimals(numeral) == self.decimals
        if not closed:
            return _decimals(numeral) >= _EXACT_DECIMALS and _value(numeral) < _PLAUSIBLE
        # The shortest form of a number never ends in 0, except for a final .0
        return _decimals(numeral) < 2 or not numeral.endswith("0")


def style_of(numerals: Iterable[str]) -> Style:
    """Infer how a column was printed from all its numerals, some of which may be cut off."""
    numerals = [numeral for numeral in numerals if math.isfinite(_value(numeral))]
    plain = [numeral for numeral in numerals if _is_plain(numeral)]
    if not plain or set(plain) == {"0.0"}:
        return Style(None, 0.0)
    counts = Counter(map(_decimals, plain))
    usual, often = counts.most_common(1)[0]
    longest = max(counts)
    # With a fixed number of digits, a tenth of the values end in 0; in the shortest form none do.
    fixed = len(plain) == len(numerals) and usual >= 2 and often >= (1 - _MOST_TORN) * len(plain) - 1
    if fixed and (len(counts) == 1 or any(n.endswith("0") for n in plain if _decimals(n) == usual)):
        return Style(usual, 10.0**-usual)
    exact = len(plain) < len(numerals) or longest >= _EXACT_DECIMALS
    return Style(None, 0.0 if exact else 10.0**-longest)


def whole(numerals: Sequence[tuple[str, bool]]) -> tuple[Style, list[bool]]:
    """Find which numerals of a column are complete.

    Args:
        numerals: printed numbers, each with whether something follows it (see `Style.complete`).

    Returns:
        The style, and a flag for each numeral. If more than a few seem to be cut off, that is the log's format, and
        only the one at the file's end is doubted.
    """
    style = style_of(numeral for numeral, _ in numerals)
    flags = [style.complete(numeral, closed) for numeral, closed in numerals]
    torn = sum(not flag for flag, (_, closed) in zip(flags, numerals, strict=True) if closed)
    if torn > 1 + _MOST_TORN * len(flags):
        flags = [flag or closed for flag, (_, closed) in zip(flags, numerals, strict=True)]
    return style, flags


def _is_plain(numeral: str) -> bool:
    return "e" not in numeral.lower() and numeral.lstrip("+-")[:1].isdigit()


def _decimals(numeral: str) -> int:
    return len(numeral.partition(".")[2])


def _value(numeral: str) -> float:
    return float(numeral)
