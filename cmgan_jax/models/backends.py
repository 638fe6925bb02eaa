"""Choice between implementations of the same computation, by device and backend.

All implementations give the same results up to rounding. The choice is made when a program is traced, from the
config's `generator.backend` and the kind of device that JAX computes on.
"""

import jax

from cmgan_jax.config import Backend
from cmgan_jax.errors import UserError
from cmgan_jax.models import kernels


def uses_kernels(backend: Backend) -> bool:
    """Whether to use the Triton kernels instead of XLA's operations.

    Raises:
        UserError: the backend is `triton`, but kernels cannot run here.
    """
    if backend == "triton" and not kernels.available():
        raise UserError(
            "--generator.backend triton: kernels need an NVIDIA GPU of compute capability "
            f"{kernels.CAPABILITY} or later and jax_triton; choose auto or xla"
        )
    return backend != "xla" and kernels.available()


def scores_by_distance() -> bool:
    """Whether attention computes relative scores by distance instead of by pair; see `relative`."""
    return _on_cpu()


def blocks_in_loop(train: bool) -> bool:
    """Whether the generator's blocks run in a loop, which compiles one block only, instead of being unrolled.

    In training, a loop must stack the activations that each block saves for the backward pass. On a GPU this takes a
    tenth of a step (H100), so blocks are unrolled there.
    """
    return not train or _on_cpu()


def product_rows() -> int:
    """Number that the row count of a matrix product should be a multiple of.

    On a GPU, bfloat16 products need a multiple of 8 rows; XLA copies operands that have another number.
    """
    return 1 if _on_cpu() else 8


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
