"""Shared fixtures: four CPU devices, and the optional shared material."""

import os
from pathlib import Path

import pytest

# Before the first import of jax anywhere: the tests exercise one to four devices.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers and real recordings; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared (reference numbers and recordings) is absent")
    return SHARED
