"""Constraints that the fields of a config declare beside themselves, and the walk that finds what breaks them.

A field states the bounds of its numbers with `setting`. A dataclass states everything else with methods that are
marked by `rule`: what no bound can tell, and what several fields may be together. The type of every field is checked as
well, whether it states bounds or not.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

LARGEST = 10**9
"""Largest magnitude of a number whose field states no bound: far beyond what makes sense, well below what overflows."""

_KEY = "_constraint"
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
_LISTS = {int: "a list of whole numbers", float: "a list of numbers", str: "a list of words"}

_SPECIFICATION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

T = TypeVar("T")
Rule = Callable[[Any], str | None]


class Problem(NamedTuple):
    """A field that cannot work.

    Attributes:
        path: where it is, such as ``loss.time``.
        value: what it holds.
        right: what it must be, as the end of a sentence.
    """

    path: str
    value: Any
    right: str


@dataclass(frozen=True)
class Bounds:
    """An interval of numbers; where neither of a side's two bounds is given, the side ends at `LARGEST`.

    Attributes:
        at_least: the smallest number in it.
        above: every number in it is larger.
        at_most: the largest number in it.
        below: every number in it is smaller.
        zero: what 0 stands for, where it is no quantity.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    zero: str = ""

    def allow(self, number: float) -> bool:
        """Whether a number is in the interval; NaN is in none."""
        return all(
            (
                number >= (-LARGEST if self.at_least is None else self.at_least),
                self.above is None or number > self.above,
                number <= (LARGEST if self.at_most is None else self.at_most),
                self.below is None or number < self.below,
            )
        )

    def describe(self, number: float) -> str:
        """The interval in words, for a number outside; `LARGEST` is told only to a number beyond it."""
        low, high = self.at_least, self.at_most
        if self.above is None and low is None and not number >= -LARGEST:
            low = -LARGEST
        if self.below is None and high is None and not number <= LARGEST:
            high = LARGEST
        first = f"0 ({self.zero})" if self.zero and low == 0 else f"{low:,}" if low is not None else ""
        if low is not None and high is not None:
            return f"{first} to {high:,}"
        if low == 0 and self.below is None:
            return f"{first} or more"
        if self.above == 0 and high is None and self.below is None:
            return "positive"
        sides = {"above": self.above, "at least": low, "at most": high, "below": self.below}
        return ", ".join(f"{words} {bound:,}" for words, bound in sides.items() if bound is not None)


def setting(
    default: T,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    zero: str = "",
) -> T:
    """A field of a dataclass whose number, or each number of whose tuple, has bounds; see `Bounds`.

    Returns:
        The field. Its type is given as the default's, as `dataclasses.field` does.
    """
    bounds = Bounds(at_least, above, at_most, below, zero)
    return dataclasses.field(default=default, metadata={_KEY: bounds})  # pyright: ignore[reportReturnType]


def rule(*paths: str) -> Callable[[Rule], Rule]:
    """Mark a method of a dataclass as a rule about some of its fields.

    The method returns None, or what the first of the fields must be, as the end of "it must be ...". It is asked only
    where each of the fields is of its type, within its bounds, and refused by no rule before.

    Args:
        paths: the fields that the rule reads, from the dataclass on, such as ``data.crop_seconds``.
    """

    def mark(method: Rule) -> Rule:
        setattr(method, _KEY, paths)
        return method

    return mark


def problems(config: Any) -> list[Problem]:
    """Every field of a dataclass, and of those within it, that cannot work.

    A field is named once, and not where only another one makes it wrong. Rules of inner dataclasses come first.
    """
    found = [problem for path, value, hint, bounds in _fields(config) for problem in _alone(path, value, hint, bounds)]
    refused = [problem.path for problem in found]
    for prefix, section in _sections(config):
        for paths, method in rules_of(type(section)):
            names = [prefix + path for path in paths]
            if any(f"{name}.".startswith(f"{path}.") for name in names for path in refused):
                continue
            if right := method(section):
                refused.append(names[0])
                found.append(Problem(names[0], _at(section, paths[0]), right))
    return found


def is_specification(text: str) -> bool:
    """Whether a text names something in a module, in the form `my_package.my_module:name`."""
    return _SPECIFICATION.fullmatch(text) is not None


def rules_of(cls: type) -> list[tuple[tuple[str, ...], Rule]]:
    """The rules of a dataclass, each with the paths of the fields that it reads, in order of their definition."""
    methods = {name: method for base in reversed(cls.__mro__) for name, method in vars(base).items()}
    return [(getattr(method, _KEY), method) for method in methods.values() if hasattr(method, _KEY)]


def bounds_of(field: "dataclasses.Field[Any]") -> Bounds:
    """The bounds of a field's numbers."""
    return field.metadata.get(_KEY, Bounds())


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any, Bounds]]:
    """Path, value, type and bounds of every field; a section is a field only where it is of another type."""
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        path, value, hint = prefix + field.name, getattr(config, field.name), hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, hint):
            yield from _fields(value, f"{path}.")
        else:
            yield path, value, hint, bounds_of(field)


def _sections(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dataclass with the start of its fields' paths, inner ones first."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _sections(value, f"{prefix}{field.name}.")
    yield prefix, config


def _alone(path: str, value: Any, hint: Any, bounds: Bounds) -> Iterator[Problem]:
    """What is wrong with a field by itself: its type, or else its numbers."""
    if not _is_of_type(value, hint):
        yield Problem(path, value, _describe(hint))
        return
    several = isinstance(value, tuple)
    for item in value if several else (value,):
        if isinstance(item, int | float) and not isinstance(item, bool) and not bounds.allow(item):
            words = bounds.describe(item)
            yield Problem(path, value, f"{_describe(hint)}, each {words}" if several else words)
            return


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return _LISTS[get_args(hint)[0]]
    return _WORDS.get(hint, "a section")


def _is_of_type(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_of_type(item, get_args(hint)[0]) for item in value)
    if hint in (int, float):
        # A truth value is an int to Python, and an int will do for a float.
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _at(section: Any, path: str) -> Any:
    for name in path.split("."):
        section = getattr(section, name)
    return section
