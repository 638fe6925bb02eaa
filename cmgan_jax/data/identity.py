"""Detection of files that hold the same samples under different names: links, copies, and other formats."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cmgan_jax.data.corpus import Clip, Pair, Problem
from cmgan_jax.data.layout import Listing
from cmgan_jax.data.manifest import to_pcm16
from cmgan_jax.errors import printable

ItemT = TypeVar("ItemT", Pair, Clip)


def content(samples: np.ndarray) -> str:
    """Return the SHA-256 in hex of float [S] rounded to 16 bits, which is the same for every file format."""
    return hashlib.sha256(to_pcm16(samples).astype("<i2").tobytes()).hexdigest()


def together(items: Sequence[ItemT], name: Callable[[ItemT], str]) -> list[list[ItemT]]:
    """Group items that share a name or the samples of a file, directly or through other items.

    Args:
        items: pairs or clips.
        name: gives the name that items of a group share, such as the speaker.

    Returns:
        The groups in the order of their first items; items keep their order within a group.
    """
    leader: dict[tuple[str, str], tuple[str, str]] = {}

    def lead(key: tuple[str, str]) -> tuple[str, str]:
        while (above := leader.setdefault(key, key)) != key:
            leader[key] = key = leader[above]
        return key

    for item in items:
        for content in item.contents:
            leader[lead(("content", content))] = lead(("name", name(item)))
    groups: dict[tuple[str, str], list[ItemT]] = {}
    for item in items:
        groups.setdefault(lead(("name", name(item))), []).append(item)
    return list(groups.values())


def leaks(listing: Listing) -> list[Problem]:
    """Find training files that are also in validation or test, and noise files that are also speech.

    Args:
        listing: files whose contents are known.

    Returns:
        A problem for every such training file. Its counterpart is kept, so that scores stay comparable.
    """
    elsewhere = {
        content: f"{printable(path)}, which {use}"
        for use, pairs in (("is for the test", listing.test), ("validates", listing.validation))
        for content, path in _files(pairs)
    }
    speech = {content: f"{printable(path)}, which is speech" for content, path in _files(listing.speech)}
    return [
        Problem(path, f"the same samples as {other[content]}: remove one of them")
        for items, other in (
            (listing.train, elsewhere),
            (listing.speech, elsewhere),
            (listing.noise, speech | elsewhere),
        )
        for content, path in _files(items)
        if content in other
    ]


def notes(listing: Listing) -> list[str]:
    """Remarks for the user on usable files with the same samples."""
    found = []
    tested = {content for content, _ in _files(listing.test)}
    if both := sum(not tested.isdisjoint(pair.contents) for pair in listing.validation):
        found.append(
            f"{both} of {len(listing.validation)} pairs of DIR/validation are in DIR/test too: it selects the best"
        )
    pairs = (*listing.train, *listing.validation)
    if alike := sum(len(set(pair.contents)) == 1 for pair in pairs):
        found.append(f"{alike} of {len(pairs)} pairs are without noise: their two files hold the same samples")
    return found


def _files(items: Iterable[Pair | Clip]) -> Iterator[tuple[str, Path]]:
    for item in items:
        yield from zip(item.contents, item.paths, strict=True)
