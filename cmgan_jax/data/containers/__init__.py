"""What lies in a file of audio, by its own structure: no header's length is believed before the bytes have been seen.

libsndfile decodes, but it takes lengths from headers, stops after the first of several recordings, and repairs what
was cut short without a word. Here a file is looked through first. The result is a list of `Part`s: each is what
libsndfile is given in the file's place, with a header that tells the truth.
"""

from collections.abc import Callable
from dataclasses import replace

from cmgan_jax.data.containers import chunked, flac, mpeg, ogg, sized, tags
from cmgan_jax.data.containers.parts import CONVERT, ContainerError, Part, Reader, Span

Parse = Callable[[Reader, int, int], Part | None]
"""From a file, where a recording begins in it and where the file ends, to the recording; None: libsndfile decides."""

_MOST_JUNK = 4096
"""Bytes after a recording that are passed over though nothing says what they are."""
_FORMATS: tuple[tuple[bytes, Parse], ...] = (
    *((magic, chunked.parse) for magic in chunked.MAGIC),
    *((magic, sized.parse) for magic in sized.MAGIC),
    (flac.MAGIC, flac.parse),
    (ogg.MAGIC, ogg.parse),
)


def parts(file: Reader) -> tuple[Part, ...]:
    """The recordings of a file, one after the other.

    Args:
        file: all of it.

    Returns:
        At least one; a single one that spans the file where it is as its header says, or of a kind that is unknown
        here and that only libsndfile can tell.

    Raises:
        ContainerError: it was cut short, is damaged, or holds more than can be read.
    """
    whole = Part((Span(0, file.size),), file.size, as_it_is=True, is_known=False)
    stop = tags.tail(file)
    found: list[Part] = []
    at = 0
    while (at := tags.skip(file, at, stop)) < stop:
        part = _parse(file, at, stop)
        if part is None and not found:
            return (whole,)
        if part is None:
            if stop - at > _MOST_JUNK:
                raise ContainerError(
                    f"{stop - at} bytes follow after the end that its header states, and nothing tells what they are: "
                    f"if they are audio, write it anew, e.g. sox --ignore-length IN OUT.wav; otherwise {CONVERT}"
                )
            break
        found.append(part)
        at = part.end
    if not found:
        return (whole,)
    if len(found) == 1 and found[0].as_it_is:
        return (replace(found[0], pieces=whole.pieces),)
    return tuple(replace(part, as_it_is=False) for part in found)


def _parse(file: Reader, at: int, stop: int) -> Part | None:
    for magic, parse in _FORMATS:
        if file.at(at, len(magic)) == magic:
            return parse(file, at, stop)
    return mpeg.parse(file, at, stop)
