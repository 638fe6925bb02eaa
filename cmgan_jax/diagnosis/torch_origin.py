"""Information in a file of weights: the network, its sizes, and the number of training batches.

Only files exported by this project tell which code trained them.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.diagnosis import origin
from cmgan_jax.diagnosis.evidence import UNNORMALISED_FLOOR
from cmgan_jax.errors import UserError
from cmgan_jax.interop.naming import (
    batches_tracked,
    discriminator_from_torch,
    generator_bins,
    generator_from_torch,
)
from cmgan_jax.interop.state_dicts import find_state_dict
from cmgan_jax.interop.weights_file import WeightsFile, read_weights_file
from cmgan_jax.recipes import to_dict

FILES = 11_572
"""Number of training files of VoiceBank+DEMAND."""
UNTOLD = "not told; those of the published code are assumed"
BATCH = 4
"""Crops per device and step in the published code."""
_NAME = re.compile(r"CMGAN_epoch_(\d+)_(?:loss_)?(\d\.\d+)")
_MENTIONED = ("epoch", "gen_loss", "pesq_score", "best_loss")


def describe_torch(path: Path) -> dict[str, Any]:
    """Describe a file of weights, as plain values for JSON.

    Args:
        path: a file of PyTorch or of safetensors.

    Raises:
        UserError: it cannot be read, or holds neither network.
    """
    file = read_weights_file(path)
    content = file.content
    network, sizes, bins = _network(path, file)
    tensors = find_state_dict(content, network)
    counted = batches_tracked(content) if network == "generator" else 0
    named = _NAME.search(path.name)
    loss = float(named[2]) if named else None
    return {
        "path": str(path),
        "kind": {"pt": "pytorch"}.get(file.format, file.format),
        **(_recorded(file) if file.note else {"code": "unknown", "sentence": _sentence(loss)}),
        "network": network,
        "sizes": sizes,
        "frequency_bins": bins,
        "spectra": to_dict(file.config.spectral) if file.config else UNTOLD,
        "numbers": int(sum(tensor.size for tensor in tensors.values() if np.issubdtype(tensor.dtype, np.floating))),
        "batches_counted": counted or None,
        "epochs_if_voicebank": {str(n): counted * n * BATCH / FILES for n in (1, 2, 4)} if counted else None,
        "epoch_in_name": int(named[1]) if named else None,
        "loss_in_name": loss,
        "mentioned": {name: content[name] for name in _MENTIONED if isinstance(content.get(name), int | float)},
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def _recorded(file: WeightsFile) -> dict[str, Any]:
    """Return the record that this project stored in a file that it exported."""
    values = origin.numbers_of(file.note["config"])
    like, differing = origin.likeness(values), origin.differences(values)
    return {
        "code": like,
        "sentence": f"This project exported it. {origin.sentence(like, values, differing, {})}",
        "recipe": values.get("recipe"),
        "preset": values.get("preset"),
        "differences": differing,
        "revision": file.note.get("source") or None,
        "steps": file.note.get("step"),
        "moving_average": file.note.get("averaged"),
    }


def _network(path: Path, file: WeightsFile) -> tuple[str, dict[str, Any], int | None]:
    """Return which network a file holds; of a file with both the generator, which is what users ask about."""
    content, config = file.content, file.config or Config()
    try:
        sizes, variables = generator_from_torch(content, config.generator)
        return "generator", to_dict(sizes), generator_bins(variables)
    except UserError as of_generator:
        try:
            return "discriminator", to_dict(discriminator_from_torch(content, config.discriminator)[0]), None
        except UserError:
            raise UserError(f"{path}: {of_generator}") from of_generator


def _sentence(loss: float | None) -> str:
    said = "The file records no recipe: neither the code of 2022 nor today's published head can be told from it"
    if loss is None:
        return f"{said}."
    floor = f"{UNNORMALISED_FLOOR:.3f}, which that of a perfect enhancer is with today's published head"
    if loss < 0.9 * UNNORMALISED_FLOOR:
        return f"{said}. But the loss of {loss:.3f} in its name is under {floor}: so it is rather not from there."
    return f"{said}. The loss of {loss:.3f} in its name is not under {floor}: it may be from there."
