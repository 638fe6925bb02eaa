"""Identification of files without readable weights, in words for an error message."""

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePath

from cmgan_jax.errors import listed

HEAD = 512
"""Number of bytes at a file's beginning that identify it."""

_SAVE = "save the network's state dict with PyTorch (torch.save(model.state_dict(), NEW)) or as safetensors"
_ONLY = f"only weights of PyTorch or safetensors can be read; {_SAVE}"

# Magic bytes of files, with the text for each.
_BEGINNINGS: Sequence[tuple[bytes, str]] = (
    (b"\x93NUMPY", f"it is an array of NumPy; {_SAVE}"),
    (b"\x89HDF\r\n\x1a\n", f"it is an HDF5 file, as Keras and TensorFlow write them; {_ONLY}"),
    (b"GGUF", f"it is a GGUF file; {_ONLY}"),
    (b"model_checkpoint_path:", f"it is TensorFlow's list of checkpoints; {_ONLY}"),
    (b"\x1f\x8b", "it is compressed with gzip; unpack it (gunzip, or tar xzf), and name the file in it"),
    (b"BZh", "it is compressed with bzip2; unpack it, and name the file in it"),
    (b"\xfd7zXZ", "it is compressed with xz; unpack it, and name the file in it"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it, and name the file in it"),
    (b"7z\xbc\xaf", "it is a 7-Zip archive; unpack it, and name the file in it"),
    (b"Rar!", "it is a RAR archive; unpack it, and name the file in it"),
    (b"RIFF", "it is a recording, not weights"),
    (b"fLaC", "it is a recording, not weights"),
    (b"OggS", "it is a recording, not weights"),
    (b"ID3", "it is a recording, not weights"),
    (b"%PDF", "it is a PDF document"),
    (b"\x89PNG", "it is a picture"),
    (b"\xff\xd8\xff", "it is a picture"),
)
_WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def described(name: str, head: bytes) -> str:
    """Describe what a file is.

    Args:
        name: the file's name; its suffix is used if the bytes are not conclusive.
        head: the first `HEAD` bytes of the file, or all if it is shorter.

    Returns:
        A text that begins with "it is", with a remedy.
    """
    if not head:
        return "it is empty; fetch or save it again"
    if not head.strip(b"\0"):
        return "it holds nothing but zeros, as after a lost download or a power loss; fetch or save it again"
    if head.startswith(b"version https://git-lfs"):
        return f"it is a git-lfs pointer, which only stands for {_size_of(head)}; fetch that: git lfs pull"
    if b"/annex/objects/" in head[:80]:
        return "it is a git-annex pointer, which only stands for the file; fetch that: git annex get"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "it is a web page, which a server sent in the file's place; download it again from a direct link"
    for beginning, words in _BEGINNINGS:
        if head.startswith(beginning):
            return words
    ending = PurePath(name).suffix.lower()
    if head[4:8] == b"TFL3" or ending == ".tflite":
        return f"it is a model of TensorFlow Lite; {_ONLY}"
    if head[257:262] == b"ustar":
        return "it is a tar archive; unpack it, and name the file in it"
    if ending == ".onnx" or (head[:1] == b"\x08" and any(of in head for of in (b"onnx", b"pytorch", b"torch", b"tf2"))):
        return f"it is an ONNX model; {_ONLY}"
    if ending in (".pb", ".index") or ".data-0" in name:
        return f"it is a model of TensorFlow; {_ONLY}"
    if head[:1] == b"\x80":
        return f"it is a pickle that torch.save did not write, and nothing in it is executed; {_SAVE}"
    if text.startswith((b"{", b"[")):
        several = b'"weight_map"' in head or name.endswith(".index.json")
        return (
            "it is the list of the files of a model that is in several; join them in one" if several else "it is JSON"
        )
    if _is_text(head):
        return f"it is text that begins with {head[:40].decode(errors='replace').strip()!r}"
    return "it is no file that torch.save or safetensors wrote"


def described_archive(names: Sequence[str]) -> str | None:
    """Describe what a zip archive is that torch.save did not write.

    Args:
        names: names of its members.

    Returns:
        As for `described`; None if the names are not conclusive.
    """
    if names and all(name.endswith(".npy") for name in names):
        return f"it is an archive of NumPy arrays (npz); {_SAVE}"
    if "about.json" in names and any(name.endswith(".jax") for name in names):
        return "it is an enhancer of cmgan export stablehlo, which cmgan_jax.inference.export.load_artefact runs"
    if any(name.endswith(".weights.h5") for name in names):
        return f"it is a model of Keras; {_ONLY}"
    within = [name for name in names if name.lower().endswith(_WEIGHTS) or PurePath(name).name == "ckpt"]
    if within:
        return f"it is a zip archive around {within[0][:120]}; unpack it, and name that"
    return None


def described_folder(folder: Path) -> str | None:
    """Describe a folder without a run or checkpoint: a TensorFlow model, or a folder with files of weights.

    Returns:
        A sentence; None if it is neither.
    """
    if (folder / "saved_model.pb").is_file():
        return f"It is a model of TensorFlow; {_ONLY}."
    names = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    weights = [name for name in names if name.lower().endswith(_WEIGHTS) or name.startswith(("ckpt", "CMGAN_epoch"))]
    return f"Files there that may hold weights: {listed(weights)}; name one." if weights else None


def names_in(archive: zipfile.ZipFile) -> list[str]:
    """List an archive's members without its folders."""
    return [info.filename for info in archive.infolist() if not info.is_dir()]


def _size_of(pointer: bytes) -> str:
    sizes = [line.split()[-1] for line in pointer.splitlines() if line.startswith(b"size ")]
    return f"a file of {int(sizes[0]):,} bytes" if sizes and sizes[0].isdigit() else "the file"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not merely cut off within a character
            return False
        text = head[: error.start].decode()
    return all(c.isprintable() or c.isspace() for c in text)
