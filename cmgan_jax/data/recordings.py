"""Which files of noise are takes, cuts or channels of one recording, as far as their names tell."""

import re

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

    Files whose names differ only in what counts takes are of one recording, and so are those in folders that differ
    only in that. At a name's end, numbers, single letters, durations (`30s`) and words such as `take`, `part`, `ch`,
    with or without a number, count takes; so do numbers at its beginning, and a number that ends a word (`typing2`)
    where nothing else counts. A number of five digits or more that does not begin with zero is an identifier, such as
    Freesound's: it names the recording wherever the file lies, as does the middle of a name like those of ESC-50
    (`1-211527-B`). Otherwise the folder belongs to the name: `DKITCHEN/ch01` and `PCAFETER/ch01` are two recordings.

    Two recordings that this takes for one train or validate together, which costs variety; one that it took for two
    would make held-out noise familiar.

    Args:
        name: path below the folder that was pointed at, with forward slashes and without the suffix.

    Returns:
        Equal for files of one recording.
    """
    *folders, stem = name.split("/")
    if match := _ESC.search(stem):
        return match[1]
    kept = _uncounted(stem)
    if kept and _ID.match(kept[-1]):
        return kept[-1]
    return "/".join(" ".join(words) for words in (*map(_uncounted, folders), kept))


def _uncounted(name: str) -> list[str]:
    """The words of a name, in lower case, without those that count takes."""
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
