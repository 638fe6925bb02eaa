"""The constraints of the config's fields: what is beyond one is refused by its flag, and all else can be worked with.

The fields are those that there are, so that a new one is covered on the day it is added.
"""

import dataclasses
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.constraints import LARGEST, Bounds, Problem, bounds_of, problems, rule, rules_of, setting
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import flatten, from_dict, override, to_dict

FIELDS = flatten(Config())
NUMBERS = [name for name, value in FIELDS.items() if isinstance(value, int | float) and not isinstance(value, bool)]
ABSURD = (-1, 0, float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 10**400, 2**63, -0.5, 1e-320)
OTHER_TYPES = ("ten", None, [1], {}, b"1", 1j, ("a", 1))


def sections(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    yield prefix, config
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(section := getattr(config, field.name)):
            yield from sections(section, f"{prefix}{field.name}.")


SECTIONS = dict(sections(Config()))
BOUNDS = {
    prefix + field.name: bounds_of(field)
    for prefix, section in SECTIONS.items()
    for field in dataclasses.fields(section)
    if prefix + field.name in NUMBERS
}
RULED = {
    prefix + path for prefix, section in SECTIONS.items() for paths, _ in rules_of(type(section)) for path in paths
}


def refused(numbers: dict[str, Any]) -> list[str]:
    """The flags that `check` names."""
    try:
        check(override(Config(), numbers))
    except UserError as error:
        lines = str(error).splitlines()[1:]
        assert all(": it must be " in line for line in lines)
        return [line.split()[0] for line in lines]
    return []


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def beyond(bounds: Bounds, whole: bool) -> st.SearchStrategy[float]:
    """Numbers outside, those next to the bounds among them."""
    low = next(bound for bound in (bounds.above, bounds.at_least, -LARGEST) if bound is not None)
    high = next(bound for bound in (bounds.below, bounds.at_most, LARGEST) if bound is not None)
    if whole:
        assert (bounds.above, bounds.below) == (None, None)
        return st.integers(max_value=int(low) - 1) | st.integers(min_value=int(high) + 1)
    lowest_wrong = low if bounds.above is not None else math.nextafter(low, -math.inf)
    highest_wrong = high if bounds.below is not None else math.nextafter(high, math.inf)
    return (
        st.sampled_from([lowest_wrong, highest_wrong, math.nan, math.inf, -math.inf, 10**400])
        | st.floats(max_value=lowest_wrong)
        | st.floats(min_value=highest_wrong)
    )


@pytest.mark.parametrize("name", NUMBERS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_number_beyond_its_bounds_is_refused_by_name(name: str, data: st.DataObject) -> None:
    value = data.draw(beyond(BOUNDS[name], type(FIELDS[name]) is int))
    assert refused({name: value}) == [flag(name)]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_bound_that_belongs_to_its_interval_is_accepted(name: str) -> None:
    for bound in (BOUNDS[name].at_least, BOUNDS[name].at_most):
        if bound is not None:
            # What is said beside it comes from a rule, which other numbers would satisfy.
            assert BOUNDS[name].allow(bound)
            assert name in RULED or refused({name: bound}) == []


@pytest.mark.parametrize("name", FIELDS)
def test_another_type_is_refused_in_every_field(name: str) -> None:
    for value in OTHER_TYPES:
        if type(value) is not type(FIELDS[name]) or name.endswith("speakers"):
            assert refused({name: value}) == [flag(name)], value
    # A truth value is no number, and a number no truth value.
    assert refused({name: 1 if isinstance(FIELDS[name], bool) else True}) == [flag(name)]


@pytest.mark.parametrize("prefix", SECTIONS)
def test_rules_name_fields_that_there_are(prefix: str) -> None:
    for paths, _ in rules_of(type(SECTIONS[prefix])):
        assert paths
        assert {prefix + path for path in paths} <= set(FIELDS)


def test_a_section_of_another_type_is_refused_alone() -> None:
    assert refused({"spectral": "none"}) == ["--spectral"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.sampled_from([*ABSURD, *OTHER_TYPES, True]), min_size=1))
def test_any_mixture_is_refused_or_can_be_worked_with(numbers: dict[str, Any]) -> None:
    if not (flags := refused(numbers)):
        config = override(Config(), numbers)
        assert config.crop_samples >= config.spectral.n_fft
        assert config.spectral.bins > 1
        assert from_dict(to_dict(config)) == config
        assert all(abs(value) <= LARGEST * 10 for name, value in flatten(config).items() if name in NUMBERS)
    assert len(set(flags)) == len(flags)


def test_fields_with_constraints_are_as_other_fields() -> None:
    config = override(Config(), {"generator.early_strides": (2,), "loss.time": 0.5})
    assert hash(config) == hash(override(Config(), {"loss.time": 0.5, "generator.early_strides": (2,)}))
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301
    assert dataclasses.replace(config.loss, ri=0.0).ri == 0.0
    assert config.loss.__class__.ri == 0.1


@pytest.mark.parametrize(
    ("bounds", "number", "words"),
    [
        (Bounds(at_least=1), 0, "at least 1"),
        (Bounds(at_least=1), 1e30, "1 to 1,000,000,000"),
        (Bounds(at_least=0), -1, "0 or more"),
        (Bounds(at_least=0, zero="never"), -1, "0 (never) or more"),
        (Bounds(at_least=0, zero="never"), math.nan, "0 (never) to 1,000,000,000"),
        (Bounds(at_least=-90, at_most=0), 1, "-90 to 0"),
        (Bounds(at_least=0, below=1), 1, "at least 0, below 1"),
        (Bounds(above=0), 0, "positive"),
        (Bounds(above=0), math.inf, "above 0, at most 1,000,000,000"),
        (Bounds(above=0, at_most=1), 2, "above 0, at most 1"),
        (Bounds(above=-1, below=1), 1, "above -1, below 1"),
        (Bounds(at_most=5), 6, "at most 5"),
        (Bounds(at_most=5), -math.inf, "-1,000,000,000 to 5"),
        (Bounds(), math.nan, "-1,000,000,000 to 1,000,000,000"),
    ],
)
def test_bounds_are_told_in_words(bounds: Bounds, number: float, words: str) -> None:
    assert not bounds.allow(number)
    assert bounds.describe(number) == words


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = setting((2,), at_least=2)
    names: tuple[str, ...] = ()
    most: int = 9

    @rule("sizes", "most")
    def _sum(self) -> str | None:
        return f"of a sum of at most {self.most}" if sum(self.sizes) > self.most else None


@dataclass(frozen=True)
class Outer:
    inner: Inner = dataclasses.field(default_factory=Inner)
    share: float = setting(0.5, at_least=0, at_most=1)

    @rule("share", "inner.sizes")
    def _share_of_sizes(self) -> str | None:
        return "1, where a size is 3" if 3 in self.inner.sizes and self.share != 1 else None


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, []),
        ({"sizes": (2, 1)}, [("inner.sizes", "a list of whole numbers, each at least 2")]),
        ({"sizes": (2, 2.5)}, [("inner.sizes", "a list of whole numbers")]),
        ({"sizes": (2, True)}, [("inner.sizes", "a list of whole numbers")]),
        ({"names": (1,)}, [("inner.names", "a list of words")]),
        ({"most": "many"}, [("inner.most", "a whole number")]),
        ({"sizes": (3, 7)}, [("inner.sizes", "of a sum of at most 9")]),
        ({"sizes": (3, 3)}, [("share", "1, where a size is 3")]),
    ],
)
def test_rules_hold_where_the_fields_that_they_read_fit(values: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert [(path, right) for path, _, right in problems(Outer(Inner(**values)))] == found


def test_all_that_is_wrong_is_found_at_once() -> None:
    outer = Outer(Inner(sizes=(9, 9), names=("a", 1)), share=2)  # pyright: ignore[reportArgumentType]
    assert problems(outer) == [
        Problem("inner.names", ("a", 1), "a list of words"),
        Problem("share", 2, "0 to 1"),
        Problem("inner.sizes", (9, 9), "of a sum of at most 9"),
    ]


def test_rules_are_inherited_and_can_be_replaced() -> None:
    class Strict(Inner):
        @rule("sizes")
        def _sum(self) -> str | None:
            return "of a sum of 2" if sum(self.sizes) != 2 else None

    class Same(Inner):
        pass

    assert [problem.right for problem in problems(Strict(sizes=(3,)))] == ["of a sum of 2"]
    assert [problem.right for problem in problems(Same(sizes=(10,)))] == ["of a sum of at most 9"]
