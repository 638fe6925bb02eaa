"""What goes wrong with a file of audio, in words for people."""

from pathlib import Path

import soundfile

from cmgan_jax.errors import UserError, printable


class AudioError(UserError):
    """A file that cannot be read or written as audio.

    Attributes:
        path: the file.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{printable(path)}: {reason}")
        self.path = path
        self.reason = reason


def system_error(path: Path, error: OSError) -> AudioError:
    """An error of the file system as one of this file."""
    return AudioError(path, error.strerror or str(error))


def library_reason(error: soundfile.SoundFileError) -> str:
    """What libsndfile says, without the file's name."""
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text.removeprefix("Error : ").rstrip(".")
