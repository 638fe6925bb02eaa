"""How precisely programs compute products of float32: as their config says, whatever the device would do by itself."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import jax

PRODUCTS = {"fp32": "highest", "tf32": "default", "bf16": "highest"}
"""JAX's precision of a product of float32, by `Config.precision`. On NVIDIA GPUs its default keeps ten bits of each
operand (TF32). In `bf16`, what is float32 is so for a reason: power iterations, distances, the discriminator's end."""

Program = TypeVar("Program", bound=Callable[..., Any])


def as_configured(program: Program) -> Program:
    """Trace a function of a keyword `config` so that its products, backward ones too, are as precise as that says."""

    @wraps(program)
    def traced(*arguments: Any, **options: Any) -> Any:
        with jax.default_matmul_precision(PRODUCTS[options["config"].precision]):
            return program(*arguments, **options)

    return cast(Program, traced)
