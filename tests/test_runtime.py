"""What entry points set before JAX starts, in processes of their own."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cmgan_jax.runtime import CACHE_VARIABLE, FEW_CORES
from cmgan_jax.system.cores import free_cores

pytestmark = pytest.mark.subprocess
PREPARED = """
import os
from cmgan_jax.runtime import prepare_programs

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
        "prepare_programs()\n", "import cmgan_jax.runtime as r; r.free_cores = lambda: 16; prepare_programs()\n"
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
from cmgan_jax.runtime import cache_programs

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


PROGRAMS = """
import sys
import jax
from cmgan_jax.runtime import cache_programs

cache_programs()
keeps = jax.config.jax_persistent_cache_min_compile_time_secs < 1e6
if keeps:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
for number in range(5):
    def program(x):
        return x * number + 1
    program.__name__ = f"program_{number}"
    assert jax.jit(program)(2.0) == 2 * number + 1
"""


def started(folder: Path | None, program: str = PROGRAMS) -> str:
    """What a process says of the programs that it keeps in a folder; None: the environment names none."""
    environment = {name: value for name, value in os.environ.items() if name not in (CACHE_VARIABLE, "XDG_CACHE_HOME")}
    if folder is not None:
        environment[CACHE_VARIABLE] = str(folder)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


def kept(folder: Path) -> dict[str, bytes]:
    """Entries by the program's name."""
    return {path.name.rsplit("-", 2)[0]: path.read_bytes() for path in folder.glob("jit_program_*-cache")}


def test_kept_programs_that_are_damaged_are_replaced(tmp_path: Path) -> None:
    """Cut, empty, zeros, another's bytes: each is told of in a line, compiled once, and kept again."""
    assert started(tmp_path) == ""
    whole = kept(tmp_path)
    assert len(whole) == 5
    for path in tmp_path.glob("jit_program_*-cache"):
        content = path.read_bytes()
        middle = bytearray(content)
        middle[len(middle) // 2] ^= 1
        damaged = (content, content[: len(content) // 2], b"", bytes(len(content)), bytes(middle))
        path.write_bytes(damaged[int(path.name.split("-")[0][-1])])
    told = started(tmp_path).splitlines()
    assert len(told) == 4
    assert all("a kept program is damaged and is compiled anew" in line for line in told)
    assert started(tmp_path) == ""
    assert {name: len(content) for name, content in kept(tmp_path).items()} == pytest.approx(
        {name: len(content) for name, content in whole.items()}, rel=0.05
    )


def test_a_full_disk_leaves_no_half_of_a_program(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk. It is told of once, and the work goes on."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))\n"
    (line,) = started(tmp_path, PROGRAMS.replace("for number", limit + "for number")).splitlines()
    assert line.startswith("compiled programs are not kept: ")
    assert "File too large" in line
    assert kept(tmp_path) == {}


@pytest.mark.parametrize(
    ("path", "before", "said"),
    [
        ("file", "", "compiled programs are not kept: .*file: "),
        ("file/below", "", "compiled programs are not kept: .*file/below: Not a directory"),
        ("new/folder", "import os; os.access = lambda *_: False\n", ""),
    ],
)
def test_a_folder_that_cannot_keep_programs_is_told_of_in_a_line(
    tmp_path: Path, path: str, before: str, said: str
) -> None:
    """A folder that may only be read is no trouble."""
    (tmp_path / "file").touch()
    told = started(tmp_path / path if path else None, before + PROGRAMS)
    assert len(told.splitlines()) == bool(said)
    assert re.match(said, told)
    assert kept(tmp_path / "new" / "folder") == {}
