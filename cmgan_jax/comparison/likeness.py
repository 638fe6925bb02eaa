"""Unintended differences between the runs of a comparison."""

from collections.abc import Iterable, Sequence
from typing import Any

from cmgan_jax.comparison.outcome import FinishedRun
from cmgan_jax.training.identity import HOST, data_of, fields_of, start_in_words

_MOST = 6
"""Maximum number of runs that a sentence names."""


def unequal(runs: Sequence[FinishedRun]) -> list[str]:
    """List what makes the comparison of runs unfair, in a sentence each.

    Args:
        runs: runs of all variants.

    Returns:
        Fields of the config in which seeds of one variant differ; then what all runs should share and do not: corpus,
        start, held-out files, package versions, source revision, devices.
    """
    known = [run for run in runs if run.config]
    lines = []
    for variant in dict.fromkeys(run.variant for run in known):
        seeds = [run for run in known if run.variant == variant]
        fields = [fields_of(run.config) for run in seeds]
        for name in dict.fromkeys(name for of in fields for name in of):
            if name not in HOST | {"seed"}:
                lines += _differing(f"seeds of {variant} differ in {name}", seeds, [of.get(name) for of in fields])
    for what in dict.fromkeys(name for run in known for name in _shared(run)):
        lines += _differing(f"runs differ in {what}", known, [_shared(run).get(what) for run in known])
    return lines


def changes(runs: Sequence[FinishedRun], reference: str) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Return the config fields in which a variant's first run differs from the reference's, with both values.

    Args:
        runs: runs of all variants.
        reference: the variant that the others are compared with; the result is empty without a run of it.
    """
    first: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run.config:
            first.setdefault(run.variant, fields_of(run.config))
    base = first.get(reference)
    if base is None:
        return {}
    return {
        variant: {
            name: (of.get(name), base.get(name))
            for name in dict.fromkeys((*of, *base))
            if of.get(name) != base.get(name) and name not in HOST | {"seed", "recipe"}
        }
        for variant, of in first.items()
        if variant != reference
    }


def changes_in_words(runs: Sequence[FinishedRun], reference: str) -> list[str]:
    """Format `changes`, one line per variant."""
    return [
        f"{variant}: " + (", ".join(f"{name} {own} (not {base})" for name, (own, base) in of.items()) or "no change")
        for variant, of in changes(runs, reference).items()
    ]


def _shared(run: FinishedRun) -> dict[str, Any]:
    """Return what all runs of a fair comparison have in common, by name; missing where a record lacks it."""
    about, origin = run.about, run.about.get("provenance", {})
    facts: dict[str, Any] = {"what they began with": start_in_words(about)}
    if data := data_of(about):
        facts["corpus"] = str(data.get("fingerprint"))[:12]
    held = next((record for record in run.epochs if (record.get("noisy") or {}).get("pesq") is not None), None)
    if held is not None:
        noisy = held["noisy"]
        facts["held-out files"] = f"{noisy.get('scored', '?')} files, PESQ {noisy['pesq']:.4f} as they are"
    facts |= {f"the version of {name}": version for name, version in (origin.get("versions") or {}).items()}
    if source := origin.get("source"):
        facts["source revision"] = str(source.get("commit"))[:12] + (" with changes" if source.get("dirty") else "")
    for what, value in (
        ("the version of Python", origin.get("python")),
        ("device", origin.get("device")),
        ("number of devices", about.get("devices")),
    ):
        if value is not None:
            facts[what] = value
    return facts


def _differing(what: str, runs: Sequence[FinishedRun], values: Iterable[Any]) -> list[str]:
    """Return a sentence if the values are not all the same; a missing value is unknown and equal to any."""
    holders: dict[str, list[str]] = {}
    for run, value in zip(runs, values, strict=True):
        if value is not None:
            holders.setdefault(str(value), []).append(f"{run.variant}/seed-{run.seed}")
    if len(holders) < 2:
        return []
    return [f"{what}: " + "; ".join(f"{value} ({_listed(of)})" for value, of in holders.items())]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")
