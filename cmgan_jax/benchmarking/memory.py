"""Peak memory of this process and of a device. Standard library alone: another interpreter imports it too."""

import resource
import sys
from pathlib import Path
from typing import Any

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> bool:
    """Forget the highest resident set so far (Linux); False where the system does not allow it."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def peak_rss() -> int:
    """Highest resident set in bytes, since the start or the last `reset_peak` that worked."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest << 10


def device_peak(device: Any) -> int | None:
    """Highest bytes in use of a JAX device since it was opened; None where it does not count them (a CPU)."""
    statistics = device.memory_stats()
    return None if statistics is None else statistics.get("peak_bytes_in_use")
