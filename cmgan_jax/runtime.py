"""What must be set before JAX starts: how programs run, devices made of CPU cores, a cache of programs.

Commands call the functions that they need. A program that imports the library gets `prepare_library` by itself.
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

# Not public, and the only place that knows which entry failed.
from jax._src import compilation_cache

from cmgan_jax.errors import UserError, printable
from cmgan_jax.system import temporaries
from cmgan_jax.system.cores import free_cores
from cmgan_jax.system.outputs import remove

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
ASYNC_VARIABLE = "JAX_CPU_ENABLE_ASYNC_DISPATCH"
KEPT_SECONDS = 0.5
"""A program that takes longer to compile is kept."""
NEVER = 1e9
"""Seconds that no program takes to compile."""

_MALLOC_VARIABLES = ("MALLOC_", "GLIBC_TUNABLES")
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
ARENAS = 4
"""Arenas of glibc's `malloc`. Each keeps the most that it ever held; fewer would make threads wait for
each other: with one, a step takes 1.8 times as long in a process that has compiled."""
KEPT_BYTES = 2**31 - 1
"""Free memory that glibc keeps at its heap's end, for what is asked for next: as much as it can be told."""
GROWTH_BYTES = 2**26
"""What its heap grows by."""

FEW_CORES = 2
"""Up to so many, an operation on part of the sequences is not worth splitting (measured on 2)."""
_SPLITTING = "xla_cpu_multi_thread_eigen"
_XLA_PRODUCTS = "xla_gpu_enable_triton_gemm"
"""On a GPU the library's products are as fast as those that XLA makes and tries, and compiling takes half (H100)."""


def prepare_programs() -> None:
    """Have programs run as fast as they can; call it first.

    On a CPU a program runs in the thread that calls it, and what it frees stays with the process. By itself JAX runs it
    in another thread, where glibc takes what is larger than 64 MB from the system and gives it back after every
    program, whatever it is told: the system clears 1 GB a step anew (paper's size, batch 1).
    """
    keep_memory()
    # Programs are written for 32 bits, whatever else the environment would have.
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    _set_flags()


def prepare_library() -> None:
    """Give a program that imports the library the set-up of the commands, but for what it has chosen itself.

    `cmgan_jax` calls it when the first of its names that need JAX is used. Memory, flags of XLA and the way in which
    CPU programs run are set as by `prepare_programs`, unless the environment sets them; compiled programs are kept as
    by `cache_programs`, unless the program keeps them in a folder of its own or not at all. Whether JAX has 64 bits,
    and which devices it uses, stays as it is. What JAX has already started is not changed.
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
        # Operations that do not wait for one another, and products of matrices, still share the cores.
        _turn_off(_SPLITTING)
    _turn_off(_XLA_PRODUCTS)


def _turn_off(flag: str) -> None:
    """Set one of XLA's flags, unless the environment has."""
    flags = os.environ.get("XLA_FLAGS", "")
    if flag not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{flag}=false".strip()


def keep_memory() -> None:
    """Have glibc keep free memory, in few places, unless the environment tunes it; elsewhere this does nothing.

    Orbax starts a dozen short threads at every save. glibc gives each the next arena of eight a core: over many saves
    all of them grow to what a save needs. It must be told before there are so many: before JAX starts its threads.
    """
    tuned = any(name.startswith(_MALLOC_VARIABLES) for name in os.environ)
    if tuned or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    libc.mallopt(_M_ARENA_MAX, ARENAS)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    libc.mallopt(_M_TOP_PAD, GROWTH_BYTES)


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


def share_device() -> None:
    """Leave a GPU's memory to whoever asks first; by itself JAX takes three quarters of it at once."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


@contextmanager
def fresh_programs() -> Iterator[None]:
    """An empty cache of programs, so that compiling is timed; a cache all the same, for a second start's time."""
    with temporaries.folder() as programs:
        jax.config.update("jax_compilation_cache_dir", str(programs))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        yield


def cache_programs() -> None:
    """Keep compiled programs between starts, under the user's cache folder unless the environment names another.

    An entry that cannot be read or written to its end is deleted: JAX itself would leave it, and warn and compile anew
    at every start. Where nothing can be kept, a line says so.
    """
    try:
        folder = os.environ.get(CACHE_VARIABLE) or _cache_folder()
        in_cloud = "://" in folder  # Of which the libraries know.
        if not in_cloud:
            Path(folder).mkdir(parents=True, exist_ok=True)
    except (UserError, OSError) as error:
        named = f"{printable(error.filename)}: {error.strerror}" if isinstance(error, OSError) else str(error)
        _say(f"compiled programs are not kept: {named}")
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    # What is there can be read all the same.
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
        UserError: nobody knows where that is.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # What is not absolute counts as absent, says the specification of XDG.
    if not os.path.isabs(cache) and not os.path.isabs(cache := os.path.expanduser("~/.cache")):
        raise UserError("no home folder is known (HOME is not set)")
    return os.path.join(cache, "cmgan_jax", "programs")


def _deleting_what_fails(act: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """JAX's function that reads or writes an entry, whose key comes first; JAX goes on after an error of it."""
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
    """Start JAX's devices, before other work is done.

    Raises:
        UserError: there are none of the kind that the environment names.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError, AttributeError) as error:
        # JAX does not look whether it has found any: it asserts so, or goes on with None under `python -O`.
        reason = (
            str(error).partition(" (set ")[0] if isinstance(error, RuntimeError) else "this JAX has no such platform"
        )
        raise UserError(
            f"no device to compute on ({reason}); JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}: unset it "
            "for what is there, set it to cpu, or install a JAX for that platform (pip install 'jax[cuda12]')"
        ) from error
