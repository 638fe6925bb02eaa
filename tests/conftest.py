"""Shared fixtures: four CPU devices, a cache of compiled programs, and the optional shared material."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from quick_programs import QUICK

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# Before the first import of jax anywhere: the tests exercise one to four devices. Most of their time is compilation,
# so programs are kept, also for the processes that tests start.
os.environ.setdefault(
    "XLA_FLAGS", f"--xla_force_host_platform_device_count=4 --xla_cpu_multi_thread_eigen=false {QUICK}"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers and real recordings; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared (reference numbers and recordings) is absent")
    return SHARED


@pytest.fixture(scope="module", autouse=True)
def _programs_go_with_their_module() -> Iterator[None]:
    """Each kernel of a compiled program takes memory maps, and beyond 65,530 of them (Linux) XLA crashes."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is traced: Python runs `features` once a trace of the forward program, `apply_gradient` of the other two."""
    from cmgan_jax.training import steps

    names: list[str] = []

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            names.append(function.__name__)
            return function(*arguments, **named)

        return call

    for name in ("features", "apply_gradient"):
        monkeypatch.setattr(steps, name, counting(getattr(steps, name)))
    return names
