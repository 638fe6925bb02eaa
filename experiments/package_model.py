"""Put a trained small model into the package, with a record of its training and its model card.

python -m experiments.package_model weights --run runs/small/losses
cmgan evaluate --data HELD_OUT --strength auto --json results/small/held-out.json
cmgan evaluate --data VOICEBANK_TEST --strength auto --json results/small/voicebank.json
python -m experiments.other_sounds --clean VOICEBANK_TEST/clean --rooms RIR --out results/small/other-sounds.json
python -m experiments.package_model card
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from cmgan_jax.cli._cli import run
from cmgan_jax.errors import UserError
from cmgan_jax.inference.weights import SHIPPED, load_checkpoint
from cmgan_jax.interop.naming import generator_to_torch
from cmgan_jax.interop.weights_file import write_weights_file
from cmgan_jax.recipes import to_dict
from cmgan_jax.runs.folder import read_about
from cmgan_jax.runs.records import read_kind
from cmgan_jax.system.outputs import remove, write_json, write_text
from experiments.model_card import card

RECORDS = Path("results/small")
"""Folder of the records."""
TRAINING, HELD_OUT, VOICEBANK, OTHERS = "training.json", "held-out.json", "voicebank.json", "other-sounds.json"
"""File names of the records of the training, of the scores on both data sets, and of other sounds."""
CARD = Path("docs/model-card.md")
"""Path of the model card."""


@dataclass(frozen=True)
class WeightsCommand:
    """Write a run's weights into the package, and a record of its training."""

    run: Path
    """Run folder; its best checkpoint is taken."""
    before: Path | None = None
    """Earlier run whose weights this one started from; its epochs come first in the record."""


@dataclass(frozen=True)
class CardCommand:
    """Write the model card from the records."""


def training_record(run: Path, step: int) -> dict[str, Any]:
    """Collect the record of a training: its budget, data, settings, and every validation.

    Args:
        run: the run folder.
        step: step of the packaged checkpoint.
    """
    about = read_about(run)
    config, provenance = about["config"], about["provenance"]
    epochs = [record for record in read_kind(run, "epoch") if record["step"] <= step]
    keys = ("score", "si_sdr", "loss")
    return {
        "config": config,
        "step": step,
        "audio_seconds": step * config["batch"] * config["data"]["crop_seconds"],
        "revision": provenance["source"]["commit"],
        "versions": provenance["versions"],
        "corpus": provenance["data"],
        "noisy": {key: epochs[-1]["noisy"][key] for key in ("score", "si_sdr", "files")} if epochs else {},
        "epochs": [
            {"epoch": record["epoch"], "step": record["step"]} | {key: record["validation"][key] for key in keys}
            for record in epochs
        ],
    }


def write_weights(arguments: WeightsCommand) -> None:
    """Write the weights into the package, and the record.

    Raises:
        UserError: the run has no checkpoint that can be read.
    """
    networks = load_checkpoint(arguments.run)
    note = {
        "config": to_dict(networks.config),
        "step": networks.step,
        "averaged": networks.averaged,
        "source": networks.provenance.get("source"),
    }
    SHIPPED.parent.mkdir(exist_ok=True)
    remove(SHIPPED)
    write_weights_file(SHIPPED, generator_to_torch(networks.generator, networks.step), note)
    stages = [training_record(arguments.run, networks.step)]
    if arguments.before is not None:
        first = load_checkpoint(arguments.before)
        stages.insert(0, training_record(arguments.before, first.step))
    count = sum(leaf.size for leaf in _leaves(networks.generator["params"]))
    RECORDS.mkdir(parents=True, exist_ok=True)
    write_json(RECORDS / TRAINING, {"parameters": count, "bytes": SHIPPED.stat().st_size, "stages": stages})
    print(f"{SHIPPED.name}: {SHIPPED.stat().st_size:,} bytes, {count:,} parameters, step {networks.step}")


def _leaves(tree: Any) -> list[np.ndarray]:
    return [leaf for inner in tree.values() for leaf in _leaves(inner)] if isinstance(tree, dict) else [tree]


def read_record(name: str) -> dict[str, Any]:
    """Read a record of the model.

    Raises:
        UserError: the record does not exist; this module's docstring has the command that makes it.
    """
    try:
        return json.loads((RECORDS / name).read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{RECORDS / name} cannot be read ({error}): see python -m experiments.package_model"
        ) from error


def main() -> None:
    """Write the weights or the card, as the sub-command says."""
    arguments = tyro.cli(
        Annotated[WeightsCommand, tyro.conf.subcommand("weights")]  # type: ignore[operator]
        | Annotated[CardCommand, tyro.conf.subcommand("card")],
        prog="python -m experiments.package_model",
    )
    if isinstance(arguments, WeightsCommand):
        write_weights(arguments)
    else:
        write_text(CARD, card(*map(read_record, (TRAINING, HELD_OUT, VOICEBANK, OTHERS))))
        print(CARD)


if __name__ == "__main__":
    run(main)
