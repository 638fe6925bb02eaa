"""Files of weights (PyTorch or safetensors), with the configuration that no tensor shows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.config_check import check
from cmgan_jax.errors import UserError
from cmgan_jax.interop import foreign
from cmgan_jax.interop.safetensors_file import is_safetensors, read_safetensors, safetensors_bytes
from cmgan_jax.interop.torch_file import ZIP, is_legacy, read_torch_file_and_note
from cmgan_jax.interop.torch_writer import write_torch_file, write_whole
from cmgan_jax.recipes import from_dict

Format = Literal["pt", "safetensors"]
SUFFIXES: dict[Format, str] = {"pt": ".pt", "safetensors": ".safetensors"}
"""File suffix of each format."""


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file of weights.

    Attributes:
        content: tensors by name, or nested dicts of them, with anything else that was saved.
        format: the file's format.
        note: the note of this project's export, as values for JSON: `config`, `step`, `source`; empty for other files.
    """

    content: dict[str, Any]
    format: Format
    note: dict[str, Any]

    @property
    def config(self) -> Config | None:
        """The configuration that the weights were trained with, if the file has it."""
        return from_dict(self.note["config"]) if self.note else None


def read_weights_file(path: str | Path) -> WeightsFile:
    """Read a file of weights; its format is detected from its content, and nothing in it is executed.

    Args:
        path: a file of `torch.save` (including the legacy format) or of safetensors.

    Raises:
        UserError: the file cannot be read; the message says what it is.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(foreign.HEAD)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if is_safetensors(head):
        content, text = read_safetensors(path)
        return WeightsFile(content, "safetensors", _note(path, text))
    if not (head.startswith(ZIP) or is_legacy(head)):
        raise UserError(f"cannot read {path}: {foreign.described(path.name, head)}")
    content, text = read_torch_file_and_note(path)
    return WeightsFile(content, "pt", _note(path, text))


def write_weights_file(path: Path, state_dict: Mapping[str, np.ndarray], note: dict[str, Any]) -> None:
    """Write a file of weights atomically, in the format given by its suffix.

    Args:
        path: a path that ends in .pt or .safetensors.
        state_dict: tensors by name.
        note: the value of `WeightsFile.note`; nothing is written if it is empty.

    Raises:
        UserError: it cannot be written there.
    """
    text = json.dumps(note) if note else None
    if path.suffix == SUFFIXES["safetensors"]:
        write_whole(path, safetensors_bytes(state_dict, text))
    else:
        write_torch_file(path, state_dict, text)


def _note(path: Path, text: str | None) -> dict[str, Any]:
    """Parse and check the note of a file.

    Raises:
        UserError: the note is damaged, or from a later version of this project.
    """
    if text is None:
        return {}
    try:
        note = json.loads(text)
        check(from_dict(note["config"]))
        return note
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError) as error:
        raise UserError(
            f"{path}: what this project noted in the file cannot be read ({error}); export it anew"
        ) from error
