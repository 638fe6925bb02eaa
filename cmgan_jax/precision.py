"""Precision of float32 matrix products, which follows the config instead of the device's default."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import jax

PRODUCTS = {"fp32": "highest", "tf32": "default", "bf16": "highest"}
"""JAX's precision of float32 products for each `Config.precision`. On NVIDIA GPUs, JAX's default rounds each operand to
ten bits (TF32). With `bf16`, the products that remain float32 need full precision: power iterations, relative
positions, the discriminator's last layers."""

Program = TypeVar("Program", bound=Callable[..., Any])


def as_configured(program: Program) -> Program:
    """Wrap a function with a keyword argument `config` so that its products, also in the backward pass, follow it."""

    @wraps(program)
    def traced(*arguments: Any, **options: Any) -> Any:
        with jax.default_matmul_precision(PRODUCTS[options["config"].precision]):
            return program(*arguments, **options)

    return cast(Program, traced)
