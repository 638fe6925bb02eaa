"""Kernels for GPUs against the same by XLA. `make test` skips what needs a GPU; all else runs everywhere."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmgan_jax.models import kernels
from experiments.gpu_check.layers import EXACT, PARTS, allowed, part, passes, worst

# The tests' own set-up asks for a CPU: JAX_PLATFORMS=cuda pytest tests/test_kernels.py
ON_GPU = pytest.mark.skipif(not kernels.available(), reason="no NVIDIA GPU (JAX_PLATFORMS=cuda), or no jax_triton")


@pytest.mark.gpu
@ON_GPU
@pytest.mark.parametrize("name", PARTS)
def test_kernels_give_values_and_gradients_of_the_plain_form(name: str) -> None:
    """In float32 to 1e-5; in bfloat16 and TF32 no farther from that than the plain form, by half and a little."""
    by_xla, by_kernels = part(name, "xla"), part(name, "triton")
    exact, plain = passes(by_xla, jnp.float32), passes(by_xla, jnp.bfloat16)
    assert worst(passes(by_kernels, jnp.float32), exact) < EXACT
    assert worst(passes(by_kernels, jnp.bfloat16), exact) < allowed(worst(plain, exact))
    # TF32 keeps three bits more than bfloat16.
    assert worst(passes(by_kernels, jnp.float32, "default"), exact) < allowed(worst(plain, exact))


def test_an_error_that_is_no_number_is_an_error() -> None:
    """Wherever it stands, also where the exact value is zero."""
    assert not worst([np.ones(2), np.array([np.nan])], [np.ones(2), np.zeros(1)]) < 1.0
    assert worst([np.ones(2), np.ones(1)], [np.ones(2), np.zeros(1)]) > 100


def test_a_cpu_has_no_kernels() -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("no CPU is computed on here")
    assert not kernels.available()


@pytest.mark.parametrize(
    ("kind", "capability", "present", "said"),
    [
        ("NVIDIA H100", "9.0", False, True),
        ("NVIDIA H100", "9.0", True, False),
        ("Tesla T4 (NVIDIA)", "7.5", False, False),
        ("AMD Instinct", "gfx942", False, False),
    ],
)
def test_training_says_where_kernels_are_lacking(
    kind: str, capability: str, present: bool, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that could run them, and nothing to launch them with."""
    device = SimpleNamespace(device_kind=kind, compute_capability=capability)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    monkeypatch.setattr(kernels, "available", lambda: present)
    words = kernels.lacking()
    assert (words is not None and "jax_triton is not installed" in words) is said
