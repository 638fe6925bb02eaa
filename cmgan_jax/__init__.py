"""CMGAN in JAX: a conformer generator and a metric discriminator that remove noise from speech.

    import cmgan_jax

    enhancer = cmgan_jax.Enhancer.from_checkpoint("generator.safetensors")
    clean = enhancer.enhance(noisy, sample_rate)

Importing the package imports neither JAX nor anything else that is slow: each public name is imported at its first use.
The first use of `Enhancer`, `load`, `Generator` or `Discriminator` also configures JAX as the commands do, except for
settings that the program has made itself (`cmgan_jax.runtime.prepare_library`). To leave JAX as it is, import from the
submodules: `from cmgan_jax.inference.enhancer import Enhancer`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmgan_jax import metrics
    from cmgan_jax.config import Config
    from cmgan_jax.inference.enhancer import Enhancer
    from cmgan_jax.inference.weights import load
    from cmgan_jax.models.discriminator import Discriminator
    from cmgan_jax.models.generator import Generator
    from cmgan_jax.recipes import make_config

    __version__: str

__all__ = [
    "Config",
    "Discriminator",
    "Enhancer",
    "Generator",
    "__version__",
    "load",
    "make_config",
    "metrics",
]

_MODULES = {
    "Config": "config",
    "Discriminator": "models.discriminator",
    "Enhancer": "inference.enhancer",
    "Generator": "models.generator",
    "load": "inference.weights",
    "make_config": "recipes",
    "metrics": "metrics",
}
_NEED_JAX = ("Discriminator", "Enhancer", "Generator", "load")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used.

    Raises:
        AttributeError: there is no such name.
        MissingPackages: it needs packages that are not installed; the message says which extra has them.
    """
    if name == "__version__":
        from cmgan_jax.version import find_version

        found: Any = find_version()
    elif name in _MODULES:
        found = _imported(name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def _imported(name: str) -> Any:
    from cmgan_jax import extras

    try:
        if name in _NEED_JAX:
            import_module("cmgan_jax.runtime").prepare_library()
        module = import_module(f"cmgan_jax.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        line = extras.lacking(error, "eval")
        if line is None:
            raise
        raise extras.MissingPackages(line, name=error.name) from error
    return module if _MODULES[name] == name else getattr(module, name)


def __dir__() -> list[str]:
    """List the public names and the names that have been imported."""
    return sorted({*globals(), *__all__})
