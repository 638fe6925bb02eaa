"""Absurd values in every field of the config: each is refused by its flag, or is a number that can be worked with.

The fields are those that there are, so that a new one is covered on the day it is added.
"""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.limits import LARGEST, LIMITS
from cmgan_jax.recipes import flatten, from_dict, override, to_dict

FIELDS = flatten(Config())
NUMBERS = [name for name, value in FIELDS.items() if isinstance(value, int | float) and not isinstance(value, bool)]
ABSURD = (-1, 0, float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 10**400, 2**63, -0.5, 1e-320)
OTHER_TYPES = ("ten", None, [1], {}, b"1", 1j, ("a", 1))


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


def test_what_no_number_may_be_is_refused_in_every_field() -> None:
    for name in NUMBERS:
        for value in (float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 10**400):
            assert refused({name: value}) == [flag(name)], (name, value)
        assert abs(FIELDS[name]) <= LIMITS.get(name, LARGEST), name


def test_another_type_is_refused_in_every_field() -> None:
    for name, default in FIELDS.items():
        for value in OTHER_TYPES:
            if type(value) is not type(default) or name.endswith("speakers"):
                assert refused({name: value}) == [flag(name)], (name, value)
        # A truth value is no number, and a number no truth value.
        assert refused({name: 1 if isinstance(default, bool) else True}) == [flag(name)], name


def test_limits_are_of_fields_that_there_are() -> None:
    assert set(LIMITS) <= set(NUMBERS)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.sampled_from([*ABSURD, *OTHER_TYPES, True]), min_size=1))
def test_any_mixture_is_refused_or_can_be_worked_with(numbers: dict[str, Any]) -> None:
    if not refused(numbers):
        config = override(Config(), numbers)
        assert config.crop_samples >= config.spectral.n_fft
        assert config.spectral.bins > 1
        assert from_dict(to_dict(config)) == config
        assert all(abs(value) <= LARGEST * 10 for name, value in flatten(config).items() if name in NUMBERS)
