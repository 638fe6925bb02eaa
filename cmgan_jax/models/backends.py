"""The one place that chooses how a network is computed, where there are several forms of one computation.

All forms give the same but for rounding. One is chosen when a program is traced, by the config's `generator.backend`
and by the kind of device that JAX computes on.
"""

import jax

from cmgan_jax.config import Backend
from cmgan_jax.errors import UserError
from cmgan_jax.models import kernels


def uses_kernels(backend: Backend) -> bool:
    """Whether Triton's kernels take the place of XLA's operations.

    Raises:
        UserError: kernels are demanded where none can run.
    """
    if backend == "triton" and not kernels.available():
        raise UserError(
            "--generator.backend triton: kernels need an NVIDIA GPU of compute capability "
            f"{kernels.CAPABILITY} or later and jax_triton; choose auto or xla"
        )
    return backend != "xla" and kernels.available()


def scores_by_distance() -> bool:
    """Whether attention computes scores by distance instead of by pair; see `relative`."""
    return _on_cpu()


def blocks_in_loop(train: bool) -> bool:
    """Whether the generator's blocks are a loop, of which one is compiled, instead of one after the other.

    In training a loop lays what each block keeps for the backward pass side by side, which takes a tenth of a step
    (H100).
    """
    return not train or _on_cpu()


def product_rows() -> int:
    """The number of which the rows of a product should be a multiple.

    On a GPU products of bfloat16 take rows in multiples of 8, and XLA copies what has another number of them.
    """
    return 1 if _on_cpu() else 8


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
