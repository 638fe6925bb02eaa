"""The speaker of a file, and the recording that a noise file was cut from, as far as names tell them.

Both keep related files on one side of the division into training and validation data.
"""

import re

UNKNOWN = "unknown"
"""The label of every file whose speaker is identified by neither a folder nor the name."""

_VCTK = re.compile(r"^(p\d+)_")
# "1034-121119-0000" (LibriSpeech), "FCJF0_SA1" (TIMIT), "s1_003"; and "…_reader_06709_0_seg_0" (DNS challenge).
_LEADING_ID = re.compile(r"^([A-Za-z]{0,8}\d+)[-_]")
_LABELLED_ID = re.compile(r"(?:^|[-_])((?:speaker|reader|spkr?)[-_]?\d+)(?=[-_]|$)", re.IGNORECASE)


def labels(name: str, own: str = UNKNOWN) -> tuple[str, tuple[str, ...]]:
    """Label a file's speaker.

    A name as in VCTK and VoiceBank (`p226_003`) identifies the speaker. Otherwise the first folder does: several
    speakers in one folder count as one, which leaks nothing. The finer labels divide such a folder.

    Args:
        name: path below the source folder, with forward slashes and without the suffix.
        own: the label where there is no folder.

    Returns:
        The speaker, and finer labels: the first two folders, the first three and so on, and finally an identifier at
        the name's beginning (`1034-121119-0000`) or one that is marked as such (`reader_06709`).
    """
    *folders, stem = name.split("/")
    if match := _VCTK.match(stem):
        return match[1], ()
    found = ["/".join(folders[:depth]) for depth in range(1, len(folders) + 1)] or [own]
    if match := _LABELLED_ID.search(stem) or _LEADING_ID.match(stem):
        found.append(match[1])
    return found[0], tuple(found[1:])


_SEPARATORS = re.compile(r"[-_.,~+#\s()\[\]]+")
# ESC-10 and ESC-50: FOLD-ID-TAKE, and in ESC-50 the class at the end; the id is Freesound's.
_ESC = re.compile(r"(?:^|[-_ ])\d-(\d+)-[A-Z](?:-\d+)?$")
_ID = re.compile(r"[1-9]\d{4,}$")
_UNIT = r"(?:of|h|m|s|ms|sec|min|k|hz|khz|db)"
_COUNTER = re.compile(
    r"(?:take|tk|part|pt|seg|segment|cut|chunk|clip|slice|split|section|file|ch|chan|channel|mic|copy|v|version|of|no|nr"
    rf"|left|right|mono|stereo)?(?:[a-z]|\d+(?:{_UNIT}\d+)*{_UNIT}?)?$",
    re.IGNORECASE,
)
_GLUED = re.compile(r"(?<=\D)\d{1,4}$")


def recording(name: str) -> str:
    """Name the recording that a file was cut from.

    Files whose names differ only in a take count are of one recording, and so are those in folders that differ only in
    that. At a name's end, numbers, single letters, durations (`30s`) and words such as `take`, `part`, `ch`, with or
    without a number, are take counts; so are numbers at its beginning, and a number that ends a word (`typing2`) if the
    name has no other count. A number of five digits or more that does not begin with zero is an identifier, such as
    Freesound's: it names the recording wherever the file lies, as does the middle of a name like those of ESC-50
    (`1-211527-B`). Otherwise the folder belongs to the name: `DKITCHEN/ch01` and `PCAFETER/ch01` are two recordings.

    Two recordings taken for one end up on the same side of the division, which only costs variety; one recording taken
    for two would leak held-out noise into training.

    Args:
        name: path below the source folder, with forward slashes and without the suffix.

    Returns:
        A name that is equal for files of one recording.
    """
    *folders, stem = name.split("/")
    if match := _ESC.search(stem):
        return match[1]
    kept = _uncounted(stem)
    if kept and _ID.match(kept[-1]):
        return kept[-1]
    return "/".join(" ".join(words) for words in (*map(_uncounted, folders), kept))


def _uncounted(name: str) -> list[str]:
    """Return the words of a name, in lower case, without those that are take counts."""
    words = [word for word in _SEPARATORS.split(name.lower()) if word]
    first, last = 0, len(words)
    while first < last and _COUNTER.match(words[last - 1]) and not _ID.match(words[last - 1]):
        last -= 1
    while first < last and words[first].isdecimal() and not _ID.match(words[first]):
        first += 1
    kept = words[first:last]
    if kept and last == len(words):
        kept[-1] = _GLUED.sub("", kept[-1])
    return kept
