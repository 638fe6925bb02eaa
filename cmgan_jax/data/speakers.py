"""Who speaks in a file, as far as its folders and its name tell."""

import re

UNKNOWN = "unknown"
"""The label of every file whose speaker neither a folder nor the name tells."""

_VCTK = re.compile(r"^(p\d+)_")
# "1034-121119-0000" (LibriSpeech), "FCJF0_SA1" (TIMIT), "s1_003"; and "…_reader_06709_0_seg_0" (DNS challenge).
_LEADING_ID = re.compile(r"^([A-Za-z]{0,8}\d+)[-_]")
_LABELLED_ID = re.compile(r"(?:^|[-_])((?:speaker|reader|spkr?)[-_]?\d+)(?=[-_]|$)", re.IGNORECASE)


def labels(name: str, own: str = UNKNOWN) -> tuple[str, tuple[str, ...]]:
    """Label a file's speaker.

    A name as in VCTK and VoiceBank (`p226_003`) tells the speaker. Otherwise the first folder does: a folder that
    holds several speakers makes them one, which leaks nothing. The finer labels divide such a folder.

    Args:
        name: path below the folder that was pointed at, with forward slashes and without the suffix.
        own: the label where no folder tells.

    Returns:
        The speaker, and finer labels: the first two folders, the first three and so on, at last an identifier at
        the name's beginning (`1034-121119-0000`) or one that says so (`reader_06709`).
    """
    *folders, stem = name.split("/")
    if match := _VCTK.match(stem):
        return match[1], ()
    found = ["/".join(folders[:depth]) for depth in range(1, len(folders) + 1)] or [own]
    if match := _LABELLED_ID.search(stem) or _LEADING_ID.match(stem):
        found.append(match[1])
    return found[0], tuple(found[1:])
