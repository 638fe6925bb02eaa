"""The recipes and presets by name, and configs to and from plain containers.

A *recipe* says how to train (losses, targets, optimiser); a *preset* how large (model, crop, batch, epochs).
"""

import dataclasses
from typing import Any

from cmgan_jax.config import Config
from cmgan_jax.errors import UserError

# The published code of 2022 and its head of today share everything but the time loss's clean reference.
_PUBLISHED = {
    "targets.policy": "skip",
    "targets.clip": False,
    "optimiser.cross_device_batchnorm": False,
}

RECIPES: dict[str, dict[str, Any]] = {
    "recommended": {"optimiser.clip_norm": 5.0, "optimiser.ema_decay": 0.999},
    "published_2022": _PUBLISHED,
    "published_head": {**_PUBLISHED, "loss.time_reference": "unnormalised"},
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    # Two CPU cores, minutes: figures in results/demo.md.
    "demo": {
        "epochs": 3,
        "steps_per_epoch": 75,
        "batch": 2,
        "log_every": 10,
        "generator.channels": 16,
        "generator.blocks": 1,
        "generator.heads": 1,
        "discriminator.channels": 8,
        "optimiser.generator_rate": 2e-3,
        "optimiser.decay_every": 2,
        "data.crop_seconds": 1.0,
        "data.validation_crops": 24,
        "data.validation_files": 16,
    },
    # A minute or two on one core: for comparisons of dozens of runs (cmgan compare). Four crops a step, as the
    # published code has on a device; half the frames.
    "study": {
        "epochs": 6,
        "steps_per_epoch": 20,
        "batch": 4,
        "log_every": 5,
        "spectral.hop": 200,
        "generator.channels": 8,
        "generator.blocks": 1,
        "generator.heads": 1,
        "generator.dense_depth": 2,
        "generator.kernel": 15,
        "discriminator.channels": 8,
        "optimiser.generator_rate": 2e-3,
        "data.crop_seconds": 1.0,
        "data.validation_crops": 8,
        "data.validation_files": 6,
    },
    # A laptop's processor: 0.3 M parameters, 17 bins in the conformers, half the frames of the paper.
    "small": {
        "epochs": 80,
        "steps_per_epoch": 450,
        "batch": 4,
        "spectral.n_fft": 512,
        "spectral.hop": 256,
        "generator.channels": 32,
        "generator.blocks": 2,
        "generator.heads": 2,
        "generator.dense_depth": 3,
        "generator.feed_forward_factor": 2,
        "generator.kernel": 15,
        "generator.dropout": 0.1,
        "generator.early_strides": (4, 2),
        "generator.late_strides": (2,),
        "generator.output_channels": 16,
        "generator.recompute": False,
        "optimiser.generator_rate": 1e-3,
        "data.crop_seconds": 2.048,
        "data.validation_files": 48,
        "data.snr_low": -5.0,
        "data.snr_high": 25.0,
        # Attention over long spans would cost more than everything else.
        "inference.whole": 4.0,
        "inference.window": 4.0,
        "inference.edge": 0.25,
        "inference.fade": 0.25,
    },
    # Seconds: for tests.
    "tiny": {
        "epochs": 2,
        "steps_per_epoch": 4,
        "batch": 4,
        "log_every": 1,
        "generator.channels": 4,
        "generator.blocks": 1,
        "generator.heads": 2,
        "generator.dense_depth": 2,
        "generator.kernel": 7,
        "discriminator.channels": 2,
        "data.crop_seconds": 0.5,
        "data.validation_crops": 4,
        "data.validation_files": 2,
    },
}


def override(config: Config, numbers: dict[str, Any]) -> Config:
    """Replace fields named by dotted paths, such as ``{"loss.time": 0.0}``.

    Raises:
        KeyError: a path names no field.
    """
    for path, value in numbers.items():
        section, _, name = path.rpartition(".")
        target: Any = getattr(config, section, None) if section else config
        if name not in getattr(target, "__dataclass_fields__", ()):
            raise KeyError(f"no config field {path!r}")
        changed = dataclasses.replace(target, **{name: value})
        config = dataclasses.replace(config, **{section: changed}) if section else changed
    return config


def make_config(recipe: str = "recommended", preset: str = "paper") -> Config:
    """The config of a named recipe at a named size.

    Raises:
        UserError: an unknown name; the message lists those there are.
    """
    for kind, name, known in (("recipe", recipe, RECIPES), ("preset", preset, PRESETS)):
        if name not in known:
            raise UserError(f"unknown {kind} {name!r}; there are: {', '.join(known)}")
    base = Config(recipe=recipe, preset=preset)
    return override(override(base, PRESETS[preset]), RECIPES[recipe])


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain containers, ready for JSON."""
    return dataclasses.asdict(config)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every number of a config by its dotted path, such as ``loss.time``."""
    flat = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        nested = dataclasses.is_dataclass(value)
        flat |= flatten(value, f"{prefix}{field.name}.") if nested else {prefix + field.name: value}
    return flat


GONE: dict[str, tuple[Any, ...]] = {"remat": (False, True), "targets.late_discriminator": (False,)}
"""Fields of earlier versions by their dotted paths, each with the values under which a run computes what it does now.

A model trained under another value can be used, and its run cannot go on (`training.identity`). `remat` recomputed
activations; `targets.late_discriminator` taught the discriminator one step late.
"""


RENAMED = {"health.judge_every": "health.diagnose_every"}
"""Fields that earlier versions called otherwise, by their dotted paths, with the names that they have now."""


def from_dict(numbers: dict[str, Any]) -> Config:
    """The config that `to_dict` wrote, also after a trip through JSON.

    A field that is absent has its default, one of `GONE` is left out, and one of `RENAMED` has its name of today.

    Raises:
        UserError: a field is unknown to this version, or a section holds no fields.
    """
    return _build(Config, numbers, "")


def _build(cls: type, numbers: dict[str, Any], where: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    known = {
        RENAMED.get(where + name, where + name).removeprefix(where): value
        for name, value in numbers.items()
        if where + name not in GONE
    }
    if unknown := sorted(set(known) - set(fields)):
        section = f"config.{where}".removesuffix(".")
        raise UserError(f"{section} has fields that this version does not know: {', '.join(unknown)}")
    built = {}
    for name, value in known.items():
        default = fields[name].default_factory
        if isinstance(default, type):
            if not isinstance(value, dict):
                raise UserError(f"config.{where}{name} is {value!r}: it must hold the fields of {default.__name__}")
            value = _build(default, value, f"{where}{name}.")
        built[name] = tuple(value) if isinstance(value, list) else value
    return cls(**built)
