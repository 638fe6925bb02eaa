"""Number of available processor cores."""

import os


def free_cores() -> int:
    """Number of cores that this process may use, which a scheduler may have limited to a part of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
