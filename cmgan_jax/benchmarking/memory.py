"""Peak memory of this process and of a device; standard library alone, as another interpreter imports it."""

import resource
import sys
from pathlib import Path
from typing import Any

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> bool:
    """Reset the peak resident set size (Linux only); return False where the system does not allow it."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def peak_rss() -> int:
    """Peak resident set size in bytes, since the start or the last successful `reset_peak`."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest << 10


def device_peak(device: Any) -> int | None:
    """Peak bytes in use on a JAX device since it was opened; None where it does not count them (a CPU)."""
    statistics = device.memory_stats()
    return None if statistics is None else statistics.get("peak_bytes_in_use")
