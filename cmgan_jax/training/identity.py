"""Identity of a run: its config, its corpus, its initial weights, and the injected failures.

All of these are in run.json. So two runs can be compared by their records, and a run with a command line's request.
"""

from collections.abc import Collection, Mapping
from typing import Any

from cmgan_jax.config import Config
from cmgan_jax.diagnosis.history import flat
from cmgan_jax.recipes import GONE, RENAMED, flatten

HOST = frozenset(
    {
        "log_every",
        "save_every",
        "patience",
        "targets.workers",
        "targets.time_limit",
        "data.threads",
        "data.prefetch",
    }
)
"""Fields that only affect how the host does its work; runs that differ in no other field are equivalent."""
FREE = HOST | {"epochs", "precision", "mapping", "generator.recompute", "generator.backend"}
"""Fields that may change when a run is resumed."""

_MADE_TO_FAIL = ("targets.inject_failures", "targets.inject_batch_failures")


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a recorded config by dotted path; fields that an earlier version did not have get their defaults.

    A field that this version no longer has is left out, unless it changed what the run computed (`recipes.GONE`).

    Args:
        config: config as recorded in run.json.
    """
    known = flatten(Config()) | {
        RENAMED.get(name, name): value for name, value in flat(config) if value not in GONE.get(name, ())
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}


def differences(asked: Mapping[str, Any], saved: Mapping[str, Any], free: Collection[str] = FREE) -> list[str]:
    """List the differences that make two records those of different runs.

    Args:
        asked: the requested run, in the form of run.json: `config`, `target_metric`, `provenance.data`, `start`,
            `injected_failures`.
        saved: content of run.json; values that an earlier revision did not record are not compared.
        free: fields of the config that may differ.

    Returns:
        A line for each difference, such as `loss.time: the run has 0.2, asked for 0.5`.
    """
    now, before = fields_of(asked["config"]), fields_of(saved["config"])
    lines = [
        f"{name}: the run has {before.get(name)!r}, asked for {now[name]!r}"
        if name in now
        else f"{name}: the run has {before[name]!r}, and this version has no such option"
        for name in dict.fromkeys((*now, *before))
        if now.get(name) != before.get(name) and name not in free
    ]
    here, there = asked.get("target_metric"), saved.get("target_metric")
    if here and there and here != there and now["targets.metric"] == before["targets.metric"]:
        lines.append(f"target metric: the run has {there}, asked for {here}; give the metric its former range and unit")
    if same_failures(asked, saved) is False and all(now[name] == before[name] for name in _MADE_TO_FAIL):
        lines.append(
            f"failures made on purpose, which the environment sets: the run has {saved['injected_failures']}, asked "
            f"for {asked['injected_failures']}"
        )
    here, there = data_of(asked), data_of(saved)
    if here and there and here["fingerprint"] != there["fingerprint"]:
        described = there.get("description", "another").replace("\n", "\n    ")
        lines.append("corpus: other files, or other content of them; name the run's own with --data, which has")
        lines.append(f"  {described}")
    if line := start_difference(asked, saved):
        lines.append(line)
    return lines


def start_difference(asked: Mapping[str, Any], saved: Mapping[str, Any]) -> str | None:
    """Describe how the initial weights of a run differ from the requested ones; None if they are the same."""
    if same_start(asked, saved):
        return None
    before, now = start_in_words(saved), start_in_words(asked)
    return f"start: the run began with {before}, asked for {now}; to go on with the run leave --start out"


def data_of(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fingerprint and description of a record's corpus; empty if it has none."""
    return about.get("provenance", {}).get("data") or {}


def same_failures(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether two runs inject the same shares of failures; None if a record does not say."""
    shares = one.get("injected_failures"), other.get("injected_failures")
    return None if None in shares else shares[0] == shares[1]


def start_of(about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Initial weights of a run, as `origin` and `digest`; None: random weights.

    Records of an earlier revision have only the origin.
    """
    if "start" in about:
        return about["start"]
    origin = (about.get("source") or {}).get("start")
    return {"origin": origin, "digest": None} if origin else None


def same_start(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs began with the same weights, wherever these are stored."""
    first, second = start_of(one), start_of(other)
    if first is None or second is None:
        return first is second
    return None in (first["digest"], second["digest"]) or first["digest"] == second["digest"]


def start_in_words(about: Mapping[str, Any]) -> str:
    """Describe the initial weights of a run for users."""
    start = start_of(about)
    if start is None:
        return "random weights"
    return start["origin"] + (f" (weights {start['digest'][:12]})" if start["digest"] else "")
