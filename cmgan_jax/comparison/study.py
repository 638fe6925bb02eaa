"""What a comparison trains: variants of one config, each with several seeds."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from cmgan_jax.config import Config, Policy
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.registry import check_metric
from cmgan_jax.recipes import RECIPES, flatten, make_config, override

FAILURES: dict[str, dict[str, float]] = {
    "samples-20": {"targets.inject_failures": 0.20},
    "samples-56": {"targets.inject_failures": 0.56},
    "batches-56": {"targets.inject_batch_failures": 0.56},
}
"""Failures made on purpose: a share of all scores, or one score in a share of the batches."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Variant:
    """One way of training.

    Attributes:
        name: unique, and fit for a folder.
        recipe: what it starts from.
        values: what it changes, by dotted path.
    """

    name: str
    recipe: str = "recommended"
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes:
        variant: its variant's name.
        config: every number, its seed among them.
        folder: its run folder below the comparison's.
    """

    variant: str
    config: Config
    folder: Path


# Without a failed score `skip`, `mean_fill` and `mask` compute the same: `recommended` stands for the three.
_POLICIES = (
    Variant("recommended"),
    Variant("no_adversarial", values={"loss.adversarial": 0.0}),
    Variant("batch_mean", values={"targets.policy": "batch_mean"}),
    *(
        Variant(f"{policy}-{name}", values={"targets.policy": policy} | shares)
        for name, shares in FAILURES.items()
        for policy in get_args(Policy)
    ),
)
STUDIES: dict[str, tuple[Variant, ...]] = {
    "recipes": tuple(Variant(name, name) for name in RECIPES),
    "policies": _POLICIES,
    # Its rules are in results/protocol/README.md, older than its results.
    "protocol": (
        Variant("recommended"),
        Variant("no_adversarial", values={"loss.adversarial": 0.0}),
        Variant("published_2022", "published_2022"),
        Variant("published_head", "published_head"),
        Variant("skip-batches-56", values={"targets.policy": "skip"} | FAILURES["batches-56"]),
        Variant("batch_mean-batches-56", values={"targets.policy": "batch_mean"} | FAILURES["batches-56"]),
        Variant("mask-samples-56", values=FAILURES["samples-56"]),
    ),
    "all": (*(Variant(name, name) for name in RECIPES), *_POLICIES[1:]),
}


def parse_variant(words: str) -> Variant:
    """A variant from ``NAME: recipe=published_head targets.policy=skip loss.adversarial=0.1``.

    Raises:
        UserError: it is not of that form.
    """
    name, colon, rest = words.partition(":")
    pairs = [word.partition("=") for word in rest.split()]
    if not colon or not _NAME.fullmatch(name.strip()) or not all(equals for _, equals, _ in pairs):
        raise UserError(
            f"--variant {words!r}: write NAME: PATH=VALUE PATH=VALUE, such as 'late: recipe=recommended epochs=10'"
        )
    values = {path: _value(text) for path, _, text in pairs}
    return Variant(name.strip(), str(values.pop("recipe", "recommended")), values)


def plan(variants: Sequence[Variant], seeds: Sequence[int], base: Config, out: Path) -> list[PlannedRun]:
    """Every run, one seed of all variants after the other, so that a part of the work is a comparison too.

    Args:
        variants: in the order of the report.
        seeds: of each variant; equal seeds see the same data in the same order.
        base: preset and values that all share; what it changes beside `recommended` holds for every recipe.
        out: the comparison's folder.

    Raises:
        UserError: no variant or no seed, a name or a seed given twice, a recipe or number that is not known or cannot
            work.
    """
    for kind, given in (("variant", [v.name for v in variants]), ("seed", [str(seed) for seed in seeds])):
        twice = sorted({one for one in given if given.count(one) > 1})
        if not given or twice:
            raise UserError(f"--{kind}s: " + (f"{', '.join(twice)} given twice" if twice else "none given"))
    changed = _changed(base)
    items = [
        PlannedRun(variant.name, _config(variant, base.preset, changed, seed), out / variant.name / f"seed-{seed}")
        for seed in seeds
        for variant in variants
    ]
    for metric, limit in dict.fromkeys((of.config.targets.metric, of.config.targets.time_limit) for of in items):
        check_metric(metric, limit)
    return items


def _changed(base: Config) -> dict[str, Any]:
    usual = flatten(make_config("recommended", base.preset))
    return {path: value for path, value in flatten(base).items() if value != usual[path] and path != "recipe"}


def _config(variant: Variant, preset: str, changed: dict[str, Any], seed: int) -> Config:
    config = override(make_config(variant.recipe, preset), changed)
    for path, value in variant.values.items():
        before = flatten(config).get(path)
        given = _as_field(value, before)
        if before is None or type(given) is not type(before):
            known = "no such number" if before is None else f"it must be like {before!r}"
            raise UserError(f"variant {variant.name}: {path}={value}: {known}")
        config = override(config, {path: given})
    config = override(config, {"seed": seed})
    try:
        check(config)
    except UserError as error:
        raise UserError(f"variant {variant.name}: {error}") from error
    return config


def _as_field(value: Any, field: Any) -> Any:
    """What JSON has no type of its own for: a tuple written as a list, a float written as a whole number."""
    if isinstance(field, tuple) and isinstance(value, list):
        return tuple(value)
    return float(value) if isinstance(field, float) and type(value) is int else value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
