"""What no number of a config may be, whatever it means: of another type, not finite, beyond every machine."""

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

LARGEST = 10**9
"""Largest magnitude of a number that has no limit of its own."""
LIMITS = {
    "seed": 2**32,
    "batch": 65_536,
    "spectral.n_fft": 65_536,
    "generator.channels": 4_096,
    "generator.blocks": 256,
    "generator.dense_depth": 16,
    "generator.feed_forward_factor": 64,
    "generator.convolution_factor": 64,
    "generator.kernel": 4_095,
    "generator.max_distance": 100_000,
    "discriminator.channels": 4_096,
    "loss.ri": 10**6,
    "loss.magnitude": 10**6,
    "loss.time": 10**6,
    "loss.adversarial": 10**6,
    "targets.workers": 1_024,
    "targets.time_limit": 86_400,
    "optimiser.generator_rate": 1,
    "optimiser.discriminator_rate": 1,
    "optimiser.epsilon": 1,
    "optimiser.weight_decay": 100,
    "optimiser.decay_factor": 10,
    "data.crop_seconds": 600,
    "data.snr_low": 100,
    "data.snr_high": 100,
    "data.threads": 1_024,
    "data.prefetch": 10_000,
}
"""Largest magnitudes, by dotted path: far beyond what makes sense, well below what overflows or never ends."""

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def of_other_types(config: Any, prefix: str = "") -> list[tuple[str, Any, str]]:
    """Path, value and what would be right, of every field whose value is not of its type."""
    found = []
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            section = isinstance(value, hint)
            found += of_other_types(value, f"{prefix}{name}.") if section else [(prefix + name, value, "a section")]
        elif not _fits(value, hint):
            found.append((prefix + name, value, _WORDS.get(hint, "a list of words" if get_args(hint) else "a word")))
    return found


def beyond_reason(config: Any, prefix: str = "") -> list[tuple[str, Any, str]]:
    """Path, value and what would be right, of every number that is not finite, or beyond its limit."""
    found = []
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found += beyond_reason(value, f"{name}.")
        elif isinstance(value, int | float):
            limit = LIMITS.get(name, LARGEST)
            if not abs(value) <= limit:  # Not above: NaN is neither.
                found.append((name, value, f"a number of at most {limit:,}"))
    return found


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(value, str)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint in (int, float):
        # A truth value is an int to Python, and an int will do for a float.
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)
