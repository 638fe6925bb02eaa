"""The origin of our runs and checkpoints: recipe and deviations from it, code, data, devices and scores."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.diagnosis.history import METRICS, History, flat
from cmgan_jax.errors import UserError
from cmgan_jax.interop import foreign
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.recipes import PRESETS, RECIPES, make_config, to_dict
from cmgan_jax.runs.folder import ABOUT, BEST, KEEP, LATEST, read_about, read_record, started, steps_in
from cmgan_jax.system import checksums

HEAD, OLD = "published_head", "published_2022"
TIME = "loss.time_reference"
_NAMES = ("recipe", "preset")
_SCORES = ("score", "pesq", "si_sdr", "loss", "scored", "files")


def describe(path: Path) -> dict[str, Any]:
    """Collect everything recorded about a run or a checkpoint, as plain values for JSON.

    Args:
        path: a run folder, its `latest` or `best`, or one checkpoint, which may have been copied out of its run.

    Raises:
        UserError: there is no such thing at the path, or its record is damaged.
    """
    run, checkpoint = locate(path)
    about = _read(checkpoint / "run" / "metadata") if checkpoint else read_about(run)
    config, provenance = about.get("config"), about.get("provenance")
    if not isinstance(config, dict) or not isinstance(provenance, dict):
        raise UserError(f"{path}: its record has no config and no provenance; cmgan train did not write it")
    numbers = numbers_of(config)
    differing = differences(numbers)
    like = likeness(numbers)
    return {
        "path": str(path),
        "kind": "checkpoint" if checkpoint else "run",
        "code": like,
        "sentence": " ".join(filter(None, (sentence(like, numbers, differing, provenance), started(about)))),
        "recipe": numbers.get("recipe"),
        "preset": numbers.get("preset"),
        "target_metric": Scale.of_run(about).to_dict(),
        "policy": numbers.get("targets.policy"),
        "time_reference": numbers.get(TIME),
        "differences": differing,
        "injected_failures": about.get("injected_failures"),
        "revision": provenance.get("source") or None,
        "versions": {"python": provenance.get("python")} | provenance.get("versions", {}),
        "data": provenance.get("data"),
        "corpus": about.get("source"),
        "device": provenance.get("device"),
        "devices": about.get("devices"),
        "imported": provenance.get("imported"),
        "start": about.get("start"),
        "epochs_planned": numbers.get("epochs"),
        **_progress(run, about),
        "checkpoints": {kind: steps_in(run / kind) for kind in KEEP} if run else None,
        "damage": checksums.damage(checkpoint) if checkpoint else None,
    }


def locate(path: Path) -> tuple[Path, Path | None]:
    """Resolve a path to a run folder and a checkpoint; None instead of a checkpoint means the whole run.

    Raises:
        UserError: the path has neither.
    """
    path = path.expanduser().resolve()
    if (path / "run").is_dir() and (path / "state").is_dir():
        return (path.parent.parent if path.parent.name in KEEP else path), path
    if path.name in KEEP and (steps := steps_in(path)):
        return path.parent, path / str(steps[-1])
    if (path / ABOUT).is_file():
        return path, None
    if steps := [path / kind / str(step) for kind in (LATEST, BEST) for step in steps_in(path / kind)[-1:]]:
        return path, steps[0]  # a run that lost its run.json
    hint = foreign.described_folder(path) or "Name a run folder, a checkpoint in it, or a weights file."
    raise UserError(f"{path}: no run, no checkpoint there. {hint}")


def numbers_of(config: dict[str, Any]) -> dict[str, Any]:
    """Flatten a config as in `run.json` to dotted paths."""
    return {name: _plain(value) for name, value in flat(config)}


def differences(numbers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every number that differs from its recipe and preset: values `recipe` and `here`, by dotted path.

    A field that one side lacks is None there. If the recipe or the preset is unknown, the default ones are compared.
    """
    recipe, preset = (
        numbers.get(name) if numbers.get(name) in known else default
        for name, known, default in (("recipe", RECIPES, "recommended"), ("preset", PRESETS, "paper"))
    )
    expected = {name: _plain(value) for name, value in flat(to_dict(make_config(str(recipe), str(preset))))}
    return {
        name: {"recipe": expected.get(name), "here": numbers.get(name)}
        for name in dict.fromkeys((*expected, *numbers))
        if expected.get(name) != numbers.get(name)
    }


def likeness(numbers: dict[str, Any]) -> str:
    """Return which training code the numbers correspond to: `published_2022`, `published_head` or `ours`.

    Only fields that the recipes set are compared, not sizes, seeds and lengths.
    """
    decided = sorted({name for recipe in RECIPES.values() for name in recipe})
    for name in (OLD, HEAD):
        expected = dict(flat(to_dict(make_config(name))))
        if all(numbers.get(field) == expected[field] for field in (*decided, TIME)):
            return name
    return "ours"


def sentence(like: str, numbers: dict[str, Any], differing: dict[str, Any], provenance: dict[str, Any]) -> str:
    """Say in a sentence whether a training is from the old code or the new."""
    if provenance.get("imported"):
        return (
            "Its weights are imported: unless this project exported the file, which code trained them it does not "
            "tell, and the recipe named here is not theirs. A run of its own may begin with them (train --start)."
        )
    reference = numbers.get(TIME)
    if like == OLD:
        return "It is trained as the code of 2022 does, the one that gave the paper's scores."
    if like == HEAD:
        return (
            "It is trained as today's published head does: its time loss compares with the un-normalised clean signal, "
            "which lowers the output's level."
        )
    count = len(differing)
    changed = f", with {count} number{'s' * (count > 1)} changed" if differing else ""
    defect = " But its time loss is that of today's published head." if reference == "unnormalised" else ""
    return (
        f"It is trained by this project's recipe {numbers.get('recipe')}{changed}, by neither published code.{defect}"
    )


def _progress(run: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Collect steps, epochs, best and last scores: a checkpoint's at the time of writing, a run's from its records."""
    metric = Scale.of_run(about)
    position = about.get("position")
    if isinstance(position, dict):
        best, noisy = position.get("best"), position.get("noisy") or {}
        return {
            "steps": position.get("step"),
            "epochs": None,
            "best": _scores(best, metric) if best else None,
            "last": None,
            **({} if metric.name == PESQ.name else {"noisy_score": noisy.get("score")}),
            "noisy_pesq": noisy.get("pesq"),
        }
    if not (run / METRICS).is_file():
        return {"steps": 0, "epochs": 0, "best": None, "last": None, "noisy_pesq": None}
    history = History.from_run(run)
    steps = np.concatenate([history.step("step"), history.epoch("step"), [0.0]])
    scores = metric.oriented(history.score)
    rows = [
        {"epoch": number}
        | {name: value for name in _SCORES if math.isfinite(value := history.epoch(f"validation.{name}")[i])}
        for i, number in enumerate(history.epoch("epoch"))
    ]
    # The epoch that `best` holds; a record may name one whose checkpoint could not be written.
    kept = np.isin(history.epoch("step"), steps_in(run / BEST)[-1:]) if steps_in(run / BEST) else np.isfinite(scores)
    chosen = np.flatnonzero(kept & np.isfinite(scores))
    return {
        "steps": int(np.nanmax(steps)),
        "epochs": len(rows),
        "best": _scores(rows[int(chosen[np.argmax(scores[chosen])])], metric) if chosen.size else None,
        "last": _scores(rows[-1], metric) if rows else None,
        **({} if metric.name == PESQ.name else {"noisy_score": _latest(history.epoch("noisy.score"))}),
        "noisy_pesq": _latest(history.epoch("noisy.pesq")),
    }


def _latest(values: np.ndarray) -> float | None:
    return float(values[-1]) if values.size and math.isfinite(values[-1]) else None


def _scores(row: dict[str, Any], metric: Scale) -> dict[str, Any]:
    """Collect an epoch's numbers; if the target metric is PESQ, its score is only listed under that name."""
    whole = ("epoch", "scored", "files")
    names = [name for name in ("epoch", *_SCORES) if name in row and (name != "score" or metric.name != PESQ.name)]
    return {name: int(row[name]) if name in whole else row[name] for name in names}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_record(path)
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: missing, so nothing is known of where this is from; use another checkpoint"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); use another checkpoint") from error
