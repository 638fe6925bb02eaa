"""The structure of audio files, parsed here because a length in a header may be wrong.

libsndfile does the decoding, but it takes lengths from headers, stops after the first of several recordings, and
silently repairs truncated files. So a file is parsed here first. The result is a list of `Part`s: libsndfile is given
each of them instead of the file, with a corrected header.
"""

from collections.abc import Callable
from dataclasses import replace

from cmgan_jax.data.containers import chunked, flac, mpeg, ogg, sized, tags
from cmgan_jax.data.containers.parts import CONVERT, ContainerError, Part, Reader, Span

Parse = Callable[[Reader, int, int], Part | None]
"""Parses the recording between two positions of a file; None leaves the decision to libsndfile."""

_MOST_JUNK = 4096
"""Unidentified bytes after a recording that are ignored."""
_FORMATS: tuple[tuple[bytes, Parse], ...] = (
    *((magic, chunked.parse) for magic in chunked.MAGIC),
    *((magic, sized.parse) for magic in sized.MAGIC),
    (flac.MAGIC, flac.parse),
    (ogg.MAGIC, ogg.parse),
)


def parts(file: Reader) -> tuple[Part, ...]:
    """Find the recordings of a file, in order.

    Args:
        file: the whole file.

    Returns:
        At least one part. A single part spans the file where its header is right, or where its format is unknown here
        and left to libsndfile.

    Raises:
        ContainerError: the file is truncated or damaged, or holds more than can be read.
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
