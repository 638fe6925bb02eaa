"""The kinds of audio files, by their suffix: the one table of what a folder is searched for.

libsndfile knows a file by its content, so that a suffix only tells whether it is opened at all. MATLAB files are not
in the table: libsndfile reads some of them, but most hold anything but audio.
"""

from collections.abc import Iterator
from pathlib import Path

LOSSLESS = (
    ".wav", ".wave", ".bwf", ".flac", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph",
    ".nist", ".wv1", ".wv2", ".voc", ".ircam", ".sf", ".avr", ".paf", ".pvf", ".sds", ".sd2", ".iff", ".svx",
    ".8svx", ".htk",
)  # fmt: skip
"""Kinds that keep what was recorded (a few can also hold codes of telephony)."""
LOSSY = (".ogg", ".oga", ".ogx", ".opus", ".mp3", ".mp2", ".mp1", ".mpga", ".wve", ".xi", ".g722")
"""Kinds that compress with loss."""
RECORDINGS = (*LOSSLESS, *LOSSY)
"""Files that are read: enhanced, scored, trained on."""
FOREIGN = (
    # Compressed audio.
    ".m4a", ".m4b", ".m4r", ".mp4a", ".aac", ".adts", ".wma", ".amr", ".awb", ".3ga", ".ac3", ".eac3", ".dts", ".ape",
    ".wv", ".tta", ".tak", ".shn", ".ofr", ".mpc", ".mka", ".weba", ".spx", ".ra", ".dsf", ".dff", ".dss", ".ds2",
    ".qcp", ".aa", ".aax", ".alac",
    # Videos, which hold sound.
    ".mp4", ".m4v", ".webm", ".mkv", ".mov", ".qt", ".avi", ".wmv", ".asf", ".flv", ".f4v", ".f4a", ".ogv", ".ogm",
    ".mpg", ".mpeg", ".vob", ".mts", ".m2ts", ".3gp", ".3g2", ".rm", ".rmvb", ".mxf",
    # No header tells how to read them.
    ".raw", ".pcm", ".vox",
)  # fmt: skip
"""Recordings of kinds that are not read here: they are named, and never left out without a word."""
NAMED = (*RECORDINGS, *FOREIGN)
"""Files of a folder that are taken up."""


def by_quality(paths: list[Path]) -> list[Path]:
    """Files of one name in the order of preference: lossless, lossy, not read; each by path."""
    return sorted(paths, key=lambda path: (_rank(path), path))


def lossless(paths: list[Path]) -> Iterator[Path]:
    """Those of a lossless kind."""
    return (path for path in paths if _rank(path) == 0)


def _rank(path: Path) -> int:
    suffix = path.suffix.lower()
    return 0 if suffix in LOSSLESS else 1 if suffix in LOSSY else 2
