"""What entry points set before JAX starts, in processes of their own."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cmgan_jax.cores import free_cores
from experiments._runtime import FEW_CORES

PREPARED = """
import os
from experiments._runtime import prepare_programs

prepare_programs()
"""
FLAGS = PREPARED + "print(os.environ.get('XLA_FLAGS', ''))"

# Two arrays of 80 MB that live inside of the program alone.
FAULTS = """
import resource
import jax
import jax.numpy as jnp

@jax.jit
def program(x):
    one = jax.lax.optimization_barrier(jnp.broadcast_to(x, (4000, 5000)) * 2.0)
    other = jax.lax.optimization_barrier(jnp.flip(one, 0) + one)
    return jnp.sum(other)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(program(jnp.ones(5000)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print([faults() for _ in range(4)][-1])
"""
GLIBC = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
TUNING = ("MALLOC_", "GLIBC_TUNABLES", "XLA_FLAGS")


def told(program: str, **environment: str) -> str:
    """What a process prints in an environment without settings of `malloc` and XLA but these."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(TUNING)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, env=plain | environment, timeout=300, capture_output=True, text=True)
    return done.stdout.strip()


@GLIBC
def test_a_program_finds_the_memory_of_its_last_run() -> None:
    """Pages that the system has to provide, of 160 MB in 4 kB: all of them by itself, next to none as prepared."""
    assert int(told(FAULTS)) > 20_000
    assert int(told(PREPARED + FAULTS)) < 2_000


def test_operations_are_split_on_many_cores_only() -> None:
    """Unless whoever starts the process has chosen."""
    alone, products = "--xla_cpu_multi_thread_eigen=false", "--xla_gpu_enable_triton_gemm=false"
    assert told(FLAGS) == (f"{alone} {products}" if free_cores() <= FEW_CORES else products)
    many = FLAGS.replace(
        "prepare_programs()\n", "import experiments._runtime as r; r.free_cores = lambda: 16; prepare_programs()\n"
    )
    assert told(many) == products
    few = many.replace("16", "2")
    assert told(few, XLA_FLAGS="--xla_dump_to=x") == f"--xla_dump_to=x {alone} {products}"
    chosen = "--xla_cpu_multi_thread_eigen=true --xla_gpu_enable_triton_gemm=true"
    assert told(few, XLA_FLAGS=chosen) == chosen


@GLIBC
def test_memory_is_left_to_an_environment_that_tunes_it() -> None:
    """Faults stay where the environment says how large an array is taken from the system for itself."""
    assert int(told(PREPARED + FAULTS, MALLOC_MMAP_THRESHOLD_="1000000")) > 20_000


CACHE = """
import jax, os, sys
from experiments._runtime import cache_programs

if "nobody" in sys.argv:
    os.environ.pop("HOME", None)
    os.path.expanduser = lambda path: path  # As where the user's number has no name.
cache_programs()
print(jax.config.jax_compilation_cache_dir if jax.config.jax_enable_compilation_cache else "none")
"""


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ({"XDG_CACHE_HOME": "{}/cache"}, "{}/cache/cmgan_jax/programs"),
        ({"XDG_CACHE_HOME": "not/absolute", "HOME": "{}"}, "{}/.cache/cmgan_jax/programs"),
        ({"JAX_COMPILATION_CACHE_DIR": "{}/mine"}, "{}/mine"),
        ({"JAX_COMPILATION_CACHE_DIR": "gs://bucket/mine"}, "gs://bucket/mine"),
        ({"JAX_COMPILATION_CACHE_DIR": "{}/file/mine"}, "none"),
        ({"XDG_CACHE_HOME": "/proc"}, "none"),
    ],
)
def test_programs_are_kept_where_a_folder_can_be_made(settings: dict[str, str], folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": ""} | settings
    filled = {name: value.format(tmp_path) for name, value in environment.items()}
    assert told(CACHE, **filled) == folder.format(tmp_path)


def test_nothing_is_kept_where_nobody_has_a_home(tmp_path: Path) -> None:
    program = CACHE.replace('"nobody" in sys.argv', "True")
    assert told(program, JAX_COMPILATION_CACHE_DIR="", XDG_CACHE_HOME="") == "none"
    assert not Path("~").exists()


def test_programs_have_32_bits_whatever_the_environment_says() -> None:
    program = PREPARED + "import jax.numpy as jnp\nprint(jnp.ones(3, float).dtype)"
    assert told(program, JAX_ENABLE_X64="1") == "float32"
