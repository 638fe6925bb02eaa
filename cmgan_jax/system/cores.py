"""How many processor cores there are to work with."""

import os


def free_cores() -> int:
    """Cores that this process may use: where a scheduler lends a part of a machine, only that part counts."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
