"""What a run began with, in words."""

from collections.abc import Mapping
from typing import Any


def started(about: Mapping[str, Any]) -> str | None:
    """Say what a run began with in the place of random weights.

    Args:
        about: its record, as run.json has it.

    Returns:
        A sentence; None where it began with random weights, or an earlier revision recorded nothing.
    """
    start = about.get("start")
    if not isinstance(start, Mapping) or "origin" not in start:
        return None
    which = f" ({start['generator']})" if start.get("generator") else ""
    step = f", step {start['step']}" if start.get("step") else ""
    discriminator = f", beside {start['discriminator']}" if start.get("discriminator") else ""
    return f"It began with the generator{which} of {start['origin']}{step}{discriminator}."
