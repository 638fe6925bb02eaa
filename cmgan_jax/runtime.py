"""Settings that must be made before JAX starts: execution, virtual CPU devices, and the compilation cache.

Commands call the functions that they need. For a program that imports the library, `prepare_library` is called
automatically.
"""

import ctypes
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import jax

# This module is not public, but nothing else tells which cache entry failed.
from jax._src import compilation_cache

from cmgan_jax.errors import UserError, printable
from cmgan_jax.system import temporaries
from cmgan_jax.system.cores import free_cores
from cmgan_jax.system.outputs import remove

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
ASYNC_VARIABLE = "JAX_CPU_ENABLE_ASYNC_DISPATCH"
KEPT_SECONDS = 0.5
"""Compile time in seconds from which a program is stored in the cache."""
NEVER = 1e9
"""Compile time in seconds that no program reaches, so that none is stored."""

_MALLOC_VARIABLES = ("MALLOC_", "GLIBC_TUNABLES")
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
ARENAS = 4
"""Number of arenas of glibc's `malloc`. Each arena keeps its peak memory, but with fewer arenas threads wait for
each other: with one, a step takes 1.8 times as long in a process that has compiled."""
KEPT_BYTES = 2**31 - 1
"""Free memory that glibc keeps at the end of its heap for later allocations; this is the maximum that it accepts."""
GROWTH_BYTES = 2**26
"""Step in which glibc's heap grows."""

FEW_CORES = 2
"""Number of cores up to which splitting an operation on a chunk of sequences does not pay (measured on 2 cores)."""
_SPLITTING = "xla_cpu_multi_thread_eigen"
_XLA_PRODUCTS = "xla_gpu_enable_triton_gemm"
"""XLA's own GPU matrix products, which are no faster than the vendor library's and double the compile time (H100)."""


def prepare_programs() -> None:
    """Configure JAX, XLA and malloc for speed; call this before any other function here.

    CPU programs are made to run in the calling thread, and freed memory stays with the process. By default, JAX runs
    them in another thread. There, whatever its settings, glibc requests blocks above 64 MB from the system and returns
    them after every program, so that the system must clear 1 GB per step (paper's size, batch 1).
    """
    keep_memory()
    # Programs are written for 32 bits, whatever the environment says.
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    _set_flags()


def prepare_library() -> None:
    """Configure JAX for a program that imports the library, except for settings that the program has made itself.

    `cmgan_jax` calls this when the first of its names that need JAX is used. Memory, XLA flags and the execution of CPU
    programs are set as by `prepare_programs`, unless the environment sets them. Compiled programs are cached as by
    `cache_programs`, unless the program has chosen another cache folder or disabled the cache. 64-bit mode and the
    choice of devices are not touched, and neither is anything that JAX has already started.
    """
    keep_memory()
    if ASYNC_VARIABLE not in os.environ:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    _set_flags()
    folder: str | None = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    wished: bool = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    if wished and folder in (None, os.environ.get(CACHE_VARIABLE)):
        cache_programs()


def _set_flags() -> None:
    if free_cores() <= FEW_CORES:
        # Independent operations and matrix products still run in parallel.
        _turn_off(_SPLITTING)
    _turn_off(_XLA_PRODUCTS)


def _turn_off(flag: str) -> None:
    """Set one of XLA's flags to false, unless the environment sets it."""
    flags = os.environ.get("XLA_FLAGS", "")
    if flag not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{flag}=false".strip()


def keep_memory() -> None:
    """Make glibc keep freed memory, in few arenas, unless the environment tunes it; without glibc this does nothing.

    Orbax starts a dozen short-lived threads at every save, and glibc assigns each to the next of eight arenas per core.
    Over many saves, all arenas would grow to the size that a save needs. The number of arenas must be limited before
    JAX starts its threads.
    """
    tuned = any(name.startswith(_MALLOC_VARIABLES) for name in os.environ)
    if tuned or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    libc.mallopt(_M_ARENA_MAX, ARENAS)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    libc.mallopt(_M_TOP_PAD, GROWTH_BYTES)


def prepare_devices(count: int, batch: int) -> None:
    """Split the CPU into `count` virtual devices; this has no effect if an accelerator is present.

    Raises:
        UserError: the number is negative, or does not divide the global batch; this is checked before a corpus is read.
    """
    if count < 0:
        raise UserError(f"--devices {count}: it must be 0 (all) or more")
    if count and batch % count:
        raise UserError(f"--devices {count}: a batch of {batch} does not split evenly; choose a divisor of it")
    # A flag that forces a number of host devices takes precedence; JAX does not accept both.
    if count > 1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count)


def share_device() -> None:
    """Allocate GPU memory on demand; by default JAX reserves three quarters of it at once."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


@contextmanager
def fresh_programs() -> Iterator[None]:
    """Use an empty compilation cache, so that compiling can be timed, and a second start with a filled cache, too."""
    with temporaries.folder() as programs:
        jax.config.update("jax_compilation_cache_dir", str(programs))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        yield


def cache_programs() -> None:
    """Cache compiled programs on disk, in the user's cache folder unless the environment names another.

    An entry that cannot be read or written completely is deleted; JAX itself would leave it, and would warn and
    recompile at every start. If the cache cannot be used, a message says so.
    """
    try:
        folder = os.environ.get(CACHE_VARIABLE) or _cache_folder()
        in_cloud = "://" in folder  # JAX handles such addresses.
        if not in_cloud:
            Path(folder).mkdir(parents=True, exist_ok=True)
    except (UserError, OSError) as error:
        named = f"{printable(error.filename)}: {error.strerror}" if isinstance(error, OSError) else str(error)
        _say(f"compiled programs are not kept: {named}")
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    # A folder that is not writable can still be read.
    writable = in_cloud or os.access(folder, os.W_OK)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", KEPT_SECONDS if writable else NEVER)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    for name in ("get_executable_and_time", "put_executable_and_time"):
        act = getattr(compilation_cache, name, None)
        if act is not None and not hasattr(act, "__wrapped__"):
            setattr(compilation_cache, name, _deleting_what_fails(act, Path(folder)))


def _cache_folder() -> str:
    """The project's own folder below the user's cache folder.

    Raises:
        UserError: the user's home folder is not known.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore relative paths.
    if not os.path.isabs(cache) and not os.path.isabs(cache := os.path.expanduser("~/.cache")):
        raise UserError("no home folder is known (HOME is not set)")
    return os.path.join(cache, "cmgan_jax", "programs")


def _deleting_what_fails(act: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """Wrap JAX's function that reads or writes a cache entry, so that it deletes the entry on error.

    The key is the first argument. JAX itself continues after the error.
    """
    reads = act.__name__.startswith("get")

    @wraps(act)
    def call(key: str, *arguments: Any, **named: Any) -> Any:
        done = False
        try:
            result = act(key, *arguments, **named)
            done = True
            return result
        finally:
            if not done:
                for suffix in ("-cache", "-atime"):
                    remove(folder / (key + suffix))
                what = "a kept program is damaged and is compiled anew" if reads else "compiled programs are not kept"
                _say(f"{what}: {str(sys.exc_info()[1]).splitlines()[0]}")
                if not reads:
                    jax.config.update("jax_persistent_cache_min_compile_time_secs", NEVER)

    return call


def _say(text: str) -> None:
    print(f"{text} (another folder: environment variable {CACHE_VARIABLE})", file=sys.stderr)


def find_devices() -> None:
    """Initialise JAX's devices before other work is done.

    Raises:
        UserError: there is no device of the kind that the environment asks for.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError, AttributeError) as error:
        # If JAX finds no device, an assertion fails, or under `python -O` it continues with None.
        reason = (
            str(error).partition(" (set ")[0] if isinstance(error, RuntimeError) else "this JAX has no such platform"
        )
        raise UserError(
            f"no device to compute on ({reason}); JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}: unset it "
            "for what is there, set it to cpu, or install a JAX for that platform (pip install 'jax[cuda12]')"
        ) from error
