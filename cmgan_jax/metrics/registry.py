"""Lookup of the metric that a config names, built-in or from a module of the user, and checks that it works."""

import math
import numbers
import re
import threading
from typing import Any

import numpy as np

from cmgan_jax.constraints import is_specification
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.built_in import BUILT_IN
from cmgan_jax.metrics.protocol import Metric, NoScore, Scale
from cmgan_jax.system.modules import import_own

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
"""Pattern of valid metric names."""
LONGEST_UNIT = 16
"""Maximum length of a unit in characters."""
TRIAL_SECONDS = 2.0
"""Length of the synthetic pair on which a user's metric is tried."""


def find_metric(specification: str) -> Metric:
    """Find a metric by name.

    Args:
        specification: name of a built-in metric, or `module:name`, an attribute of a module that is imported. The
            module may lie in the working directory. The attribute is a metric, or a class whose instances are metrics.

    Raises:
        UserError: there is no such metric, its module cannot be imported, or it does not follow the protocol.
    """
    if specification in BUILT_IN:
        return BUILT_IN[specification]
    if not is_specification(specification):
        raise UserError(
            f"--targets.metric is {specification!r}: no built-in metric has this name; choose one of "
            f"{', '.join(BUILT_IN)}, or name your own as my_module:my_metric"
        )
    module_name, _, name = specification.partition(":")
    module = _import(specification, module_name)
    try:
        found = getattr(module, name)
    except AttributeError as error:
        raise UserError(
            f"--targets.metric {specification}: the module {module_name} has no {name}; name one of its metrics"
        ) from error
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise _unfit(
                specification, f"{name}() raised {_told(error)}", "let it be made without arguments"
            ) from error
    _check_attributes(specification, found)
    return found


def check_metric(specification: str, time_limit: float, sample_rate: int = 16_000) -> Scale:
    """Find a metric and, if it comes from a module of the user, try it on a short synthetic pair.

    Args:
        specification: see `find_metric`.
        time_limit: time limit of the trial in seconds.
        sample_rate: in Hz.

    Returns:
        Name, unit and range of the metric.

    Raises:
        UserError: as in `find_metric`; or the trial raised an error, took too long, or did not return a finite number.
            `NoScore` is accepted, since the metric may find no speech in the synthetic noise.
    """
    metric = find_metric(specification)
    if specification not in BUILT_IN:
        _try(specification, metric, time_limit, sample_rate)
    return Scale.of(metric)


def trial_pair(sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Make bursts of noise separated by pauses, and a noisier copy, float32[S] each; the result is deterministic."""
    rng = np.random.default_rng(0)
    time = np.arange(int(TRIAL_SECONDS * sample_rate)) / sample_rate
    clean = 0.1 * rng.normal(size=time.size) * (time % 0.5 >= 0.25)
    return clean.astype(np.float32), (clean + 0.01 * rng.normal(size=time.size)).astype(np.float32)


def _import(specification: str, name: str) -> Any:
    try:
        return import_own(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--targets.metric {specification}: the module {name} cannot be imported ({error}); start the command in "
            "the folder that holds it, or add that folder to PYTHONPATH"
        ) from error
    except Exception as error:
        raise _unfit(specification, f"importing {name} raised {_told(error)}", "mend the module") from error


def _check_attributes(specification: str, metric: Any) -> None:
    def read(name: str) -> Any:
        try:
            return getattr(metric, name)
        except AttributeError as error:
            raise _unfit(
                specification, f"it has no `{name}`", "see cmgan_jax.metrics.Metric for what it needs"
            ) from error

    name, unit, higher = read("name"), read("unit"), read("higher_is_better")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _unfit(
            specification, f"its `name` is {name!r}", "let it be a letter and up to 31 letters, digits and underscores"
        )
    if name in BUILT_IN:
        raise _unfit(specification, f"its `name` is {name!r}, that of a built-in metric", "give it another name")
    if not isinstance(unit, str) or len(unit) > LONGEST_UNIT or not unit.isprintable():
        raise _unfit(specification, f"its `unit` is {unit!r}", f"let it be a text of at most {LONGEST_UNIT} characters")
    if not isinstance(higher, bool):
        raise _unfit(specification, f"its `higher_is_better` is {higher!r}", "let it be True or False")
    ends = read("low"), read("high")
    for end, value in zip(("low", "high"), ends, strict=True):
        if not _is_number(value) or not math.isfinite(value):
            raise _unfit(specification, f"its `{end}` is {value!r}", "let it be a finite number")
    if not ends[0] < ends[1]:
        raise _unfit(specification, f"its `low` is {ends[0]} and its `high` is {ends[1]}", "let `low` be the lower one")
    if not callable(read("score")):
        raise _unfit(specification, "its `score` cannot be called", "let it be a method")


def _try(specification: str, metric: Metric, time_limit: float, sample_rate: int) -> None:
    clean, estimate = trial_pair(sample_rate)
    told: list[Any] = []

    def work() -> None:
        try:
            told.append(metric.score(clean, estimate, sample_rate))
        except BaseException as error:  # noqa: BLE001 - whatever it raises is told of in the thread that waits
            told.append(error)

    trial = f"`score` of a synthetic pair of {TRIAL_SECONDS:g} s"
    # Run in a thread, so that a metric that hangs ends the command with a message.
    thread = threading.Thread(target=work, name="metric trial", daemon=True)
    thread.start()
    thread.join(time_limit)
    if not told:
        raise _unfit(
            specification,
            f"{trial} gave no answer in {time_limit:g} s",
            "make it faster, or raise --targets.time-limit",
        )
    (answer,) = told
    if isinstance(answer, NoScore):
        return
    if isinstance(answer, BaseException):
        raise _unfit(specification, f"{trial} raised {_told(answer)}", "mend it, or let it raise NoScore") from answer
    if not _is_number(answer):
        raise _unfit(specification, f"{trial} gave {answer!r:.60}", "let it return a number")
    if not math.isfinite(answer):
        raise _unfit(specification, f"{trial} gave {float(answer)}", "let it return a finite number")


def _is_number(value: Any) -> bool:
    """Whether a value is a real number or a zero-dimensional array."""
    if isinstance(value, bool | np.bool_ | str | bytes | complex):
        return False
    return isinstance(value, numbers.Real) or (hasattr(value, "__float__") and getattr(value, "shape", None) == ())


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _unfit(specification: str, reason: str, remedy: str) -> UserError:
    return UserError(f"--targets.metric {specification}: {reason}; {remedy}")
