"""Constraints on the fields of config dataclasses, and the check that finds violations.

A field states the bounds of its numbers with `setting`. All other constraints, such as those between several fields,
are methods of the dataclass that are marked with `rule`. The type of every field is checked as well.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

LARGEST = 10**9
"""Largest magnitude of a number whose field states no bound: far above sensible values, and well below overflow."""

_KEY = "_constraint"
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
_LISTS = {int: "a list of whole numbers", float: "a list of numbers", str: "a list of words"}

_SPECIFICATION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

T = TypeVar("T")
Rule = Callable[[Any], str | None]


class Problem(NamedTuple):
    """A field with an invalid value.

    Attributes:
        path: dotted path of the field, such as ``loss.time``.
        value: the invalid value.
        right: what the value must be, as the end of the sentence "it must be ...".
    """

    path: str
    value: Any
    right: str


@dataclass(frozen=True)
class Bounds:
    """An interval of numbers; a side without a bound ends at `LARGEST`.

    Attributes:
        at_least: inclusive lower bound.
        above: exclusive lower bound.
        at_most: inclusive upper bound.
        below: exclusive upper bound.
        zero: meaning of 0, if 0 is a special value.
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
        """Describe the interval for a number outside; `LARGEST` is mentioned only if the number exceeds it."""
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
    """Declare a dataclass field whose number, or every number of whose tuple, has bounds; see `Bounds`.

    Returns:
        The field, annotated with the type of the default, as by `dataclasses.field`.
    """
    bounds = Bounds(at_least, above, at_most, below, zero)
    return dataclasses.field(default=default, metadata={_KEY: bounds})  # pyright: ignore[reportReturnType]


def rule(*paths: str) -> Callable[[Rule], Rule]:
    """Mark a method of a dataclass as a rule about some of its fields.

    The method returns None, or what the first of the fields must be, as the end of "it must be ...". It is called only
    if all these fields have the right type, are within their bounds, and have not been rejected by an earlier rule.

    Args:
        paths: paths of the fields that the rule reads, relative to the dataclass, such as ``data.crop_seconds``.
    """

    def mark(method: Rule) -> Rule:
        setattr(method, _KEY, paths)
        return method

    return mark


def problems(config: Any) -> list[Problem]:
    """Find all invalid fields of a dataclass and of the dataclasses nested in it.

    A field is reported once, and not if it is invalid only because of another reported field. Rules of nested
    dataclasses are applied first.
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
    """Whether a text has the form `my_package.my_module:name`, which names an object in a module."""
    return _SPECIFICATION.fullmatch(text) is not None


def rules_of(cls: type) -> list[tuple[tuple[str, ...], Rule]]:
    """The rules of a dataclass in order of definition, each with the paths of the fields that it reads."""
    methods = {name: method for base in reversed(cls.__mro__) for name, method in vars(base).items()}
    return [(getattr(method, _KEY), method) for method in methods.values() if hasattr(method, _KEY)]


def bounds_of(field: "dataclasses.Field[Any]") -> Bounds:
    """The bounds of a field."""
    return field.metadata.get(_KEY, Bounds())


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any, Bounds]]:
    """Path, value, type and bounds of every field; a nested dataclass is itself a field only if its type is wrong."""
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        path, value, hint = prefix + field.name, getattr(config, field.name), hints[field.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, hint):
            yield from _fields(value, f"{path}.")
        else:
            yield path, value, hint, bounds_of(field)


def _sections(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dataclasses with the prefix of their fields' paths, nested ones first."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _sections(value, f"{prefix}{field.name}.")
    yield prefix, config


def _alone(path: str, value: Any, hint: Any, bounds: Bounds) -> Iterator[Problem]:
    """Check a field by itself: its type, and if that is right, its bounds."""
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
        # In Python, bool is a subclass of int, which is not wanted here; an int is accepted for a float.
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _at(section: Any, path: str) -> Any:
    for name in path.split("."):
        section = getattr(section, name)
    return section
