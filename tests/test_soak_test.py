"""What growth looks like, and that it is told."""

import ctypes
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cmgan_jax.runtime import ARENAS
from experiments.soak_test import Arguments, Sample, finding, sample

STEADY = [Sample(step, 1000.0, 40, 20, 2) for step in range(0, 2000, 10)]


def test_steady_samples_pass_whatever_the_start_was() -> None:
    warming = [replace(each, memory=500.0) if each.step < 200 else each for each in STEADY]
    lines, holds = finding(warming, Arguments())
    assert holds
    assert lines[0] == "memory: 1000 MiB -> 1000 MiB (+0.00%)"


@pytest.mark.parametrize(("name", "amount"), [("memory", 25.0), ("files", 1), ("threads", 1), ("processes", 1)])
def test_growth_is_told(name: str, amount: float) -> None:
    """2.5 % of 1000 MiB, or one more of the others, from the middle of the run on."""
    grown = [replace(s, **{name: getattr(s, name) + amount}) if s.step > 1000 else s for s in STEADY]
    lines, holds = finding(grown, Arguments())
    assert not holds
    assert [line.split(":")[0] for line in lines if line.endswith("GREW")] == [name]


def test_threads_that_linger_after_a_save_are_no_growth() -> None:
    """Of 100 steps they are there for 40 in the beginning, and for 80 once the machine is free."""
    lingering = [replace(s, threads=26) if s.step % 100 < (40 if s.step < 1000 else 80) else s for s in STEADY]
    lines, holds = finding(lingering, Arguments())
    assert holds
    assert lines[2] == "threads: 20 -> 20 (+0.00%)"


def test_a_process_is_sampled() -> None:
    mine = sample(os.getpid(), 7)
    assert mine.step == 7
    assert mine.memory > 10
    assert mine.files >= 3
    assert mine.threads >= 1


def test_children_of_every_thread_count() -> None:
    """Scoring workers are started by another thread than the main one."""
    before = sample(os.getpid(), 0).processes
    begun: list[subprocess.Popen[bytes]] = []
    ready, leave = threading.Event(), threading.Event()

    def start() -> None:
        begun.append(subprocess.Popen(["sleep", "60"]))
        ready.set()
        leave.wait(60)

    thread = threading.Thread(target=start)
    thread.start()
    assert ready.wait(60)
    try:
        assert sample(os.getpid(), 0).processes == before + 1
    finally:
        leave.set()
        begun[0].kill()
        begun[0].wait()
        thread.join()


def test_nothing_before_is_no_division() -> None:
    none = [replace(each, processes=0) for each in STEADY]
    lines, holds = finding(none, Arguments())
    assert holds
    assert lines[-1] == "processes: 0 -> 0 (none before)"


USE_MEMORY = """
import ctypes, pathlib, sys, threading
from cmgan_jax.runtime import keep_memory

keep_memory()
all_here = threading.Barrier(24)

def use():
    kept = bytearray(2000)
    all_here.wait()

threads = [threading.Thread(target=use) for _ in range(24)]
for each in threads:
    each.start()
for each in threads:
    each.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
@pytest.mark.subprocess
def test_many_threads_keep_memory_in_few_arenas(tmp_path: Path) -> None:
    """24 threads at once; as it is, glibc has 8 arenas a core for them. A number in the environment comes first."""
    for environment, arenas in (({}, ARENAS), ({"MALLOC_ARENA_MAX": "2"}, 2)):
        told = tmp_path / f"{arenas}.xml"
        kept = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
        command = [sys.executable, "-c", USE_MEMORY, str(told)]
        subprocess.run(command, check=True, env=kept | environment, timeout=300)
        assert told.read_text().count("<heap nr=") == arenas
