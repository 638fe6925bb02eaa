"""Who validates: held-out speakers, files or the test set, never something that also trains."""

import hashlib
from dataclasses import dataclass
from typing import TypeVar

from cmgan_jax.config import Config
from cmgan_jax.data.corpus import Clip, Pair
from cmgan_jax.data.layout import Listing
from cmgan_jax.errors import UserError

ItemT = TypeVar("ItemT", Pair, Clip)

_SHARE = 10
"""One in so many speakers or files is held out."""
_ENOUGH_SPEAKERS = 4
"""With fewer voices of clean speech than this, files are held out: a whole voice would be missed in training."""
_LONG_SECONDS = 2.0
"""Clips at least this long are preferred for validation: scores of shorter ones are unsteady."""


@dataclass(frozen=True)
class HeldOut:
    """A listing, divided; the fields are those of `Corpus`."""

    train: tuple[Pair, ...] = ()
    speech: tuple[Clip, ...] = ()
    noise: tuple[Clip, ...] = ()
    validation: tuple[Pair, ...] | tuple[Clip, ...] = ()
    validation_noise: tuple[Clip, ...] = ()


def hold_out(listing: Listing, config: Config) -> HeldOut:
    """Divide the files of a corpus into those that train and those that validate.

    DIR/validation validates where it is; otherwise whole speakers are held out, or, where there are too few of
    them, files. Speech clips that are held out but too short to score neither train nor validate.

    Args:
        listing: the measured files.
        config: `data.validation_speakers` and `data.validate_on_test`.

    Returns:
        The division; it depends on names and lengths only, so it is the same wherever the corpus lies.

    Raises:
        UserError: what the configuration asks for is not there, or too little is left on one side.
    """
    data = config.data
    own = None
    if data.validate_on_test:
        own = listing.test
        if not own:
            raise UserError("--data.validate-on-test: the corpus has no usable DIR/test/{clean,noisy}")
    elif listing.validation:
        own = listing.validation
    if own is not None:
        if data.validation_speakers:
            folder = "test" if data.validate_on_test else "validation"
            raise UserError(f"--data.validation-speakers has no use where DIR/{folder} validates: leave one out")
        return HeldOut(listing.train, listing.speech, listing.noise, own)
    if listing.kind == "paired":
        train, pairs = _by_speaker(listing.train, data.validation_speakers, 2) or _last(listing.train)
        return HeldOut(train=train, validation=pairs)
    long = round(_LONG_SECONDS * config.spectral.sample_rate)
    speech, clips = _by_speaker(listing.speech, data.validation_speakers, _ENOUGH_SPEAKERS) or _by_hash(
        listing.speech, "speech", long
    )
    clips = tuple(clip for clip in clips if clip.frames >= long) or clips
    noise, held_noise = _by_hash(listing.noise, "noise", 0)
    return HeldOut(speech=speech, noise=noise, validation=clips, validation_noise=held_noise)


def _by_speaker(
    items: tuple[ItemT, ...], chosen: tuple[str, ...], enough: int
) -> tuple[tuple[ItemT, ...], tuple[ItemT, ...]] | None:
    """Hold out the chosen speakers, else the last tenth of them; None where fewer than `enough` speak."""
    speakers = sorted({item.speaker for item in items})
    unknown = sorted(set(chosen) - set(speakers))
    if unknown:
        there = ", ".join(speakers[:20]) + (", …" if len(speakers) > 20 else "")
        raise UserError(f"--data.validation-speakers: no {', '.join(unknown)} in the training set; it has {there}")
    if set(chosen) == set(speakers):
        raise UserError("--data.validation-speakers names every speaker: nobody is left to train on")
    if not chosen and len(speakers) < enough:
        return None
    held = set(chosen or speakers[-_tenth(len(speakers)) :])
    return (
        tuple(item for item in items if item.speaker not in held),
        tuple(item for item in items if item.speaker in held),
    )


def _last(items: tuple[Pair, ...]) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Hold out the last tenth of the files by name."""
    _require_two(len(items), "pair")
    ordered = tuple(sorted(items, key=lambda item: item.name))
    cut = len(ordered) - _tenth(len(ordered))
    return ordered[:cut], ordered[cut:]


def _by_hash(items: tuple[Clip, ...], what: str, shortest: int) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """Hold out a tenth of the files that are long enough, as a hash of the name has it.

    Neighbours by name often come from one recording session or one kind of noise; the hash takes some of each.
    """
    _require_two(len(items), f"{what} file")
    candidates = [item for item in items if item.frames >= shortest] or list(items)
    candidates.sort(key=lambda item: hashlib.sha256(item.name.encode(errors="surrogateescape")).digest())
    held = {item.name for item in candidates[: _tenth(len(candidates))]}
    return (
        tuple(item for item in items if item.name not in held),
        tuple(item for item in items if item.name in held),
    )


def _tenth(count: int) -> int:
    return max(1, count // _SHARE)


def _require_two(count: int, what: str) -> None:
    if count < 2:
        raise UserError(
            f"there is one usable {what} only, and validation needs one of its own: add more, "
            "or put a validation set into DIR/validation/{clean,noisy}"
        )
