"""What must be set before JAX starts: devices made of CPU cores, and a cache of compiled programs."""

import os
from pathlib import Path

import jax

from cmgan_jax.errors import UserError

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def prepare_devices(count: int, batch: int) -> None:
    """Let the CPU count as `count` devices; where an accelerator is present this changes nothing.

    Raises:
        UserError: a negative number, or one that the global batch does not divide over: told before a corpus is read.
    """
    if count < 0:
        raise UserError(f"--devices {count}: it must be 0 (all) or more")
    if count and batch % count:
        raise UserError(f"--devices {count}: a batch of {batch} does not split evenly; choose a divisor of it")
    # Whoever forces a number of host devices by flag has chosen already, and JAX refuses both.
    if count > 1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count)


def cache_programs() -> None:
    """Keep compiled programs between starts, under the user's cache folder unless the environment names another."""
    if CACHE_VARIABLE not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "cmgan_jax" / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
