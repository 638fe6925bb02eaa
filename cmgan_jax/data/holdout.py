"""Who validates: held-out speakers, files or the test set, never something that also trains."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from cmgan_jax.config import Config
from cmgan_jax.data import speakers
from cmgan_jax.data.corpus import Clip, Pair, plural
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

    hold_out: str
    train: tuple[Pair, ...] = ()
    speech: tuple[Clip, ...] = ()
    noise: tuple[Clip, ...] = ()
    validation: tuple[Pair, ...] | tuple[Clip, ...] = ()
    validation_noise: tuple[Clip, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part(Generic[ItemT]):
    """Items of one kind, divided: how, those that train, those held out, and what people should know."""

    how: str
    train: tuple[ItemT, ...]
    held: tuple[ItemT, ...]
    notes: tuple[str, ...] = ()


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
        folder = "test" if data.validate_on_test else "validation"
        if data.validation_speakers:
            raise UserError(f"--data.validation-speakers has no use where DIR/{folder} validates: leave one out")
        both = sorted((_speakers(own) & _speakers(listing.train + listing.speech)) - {speakers.UNKNOWN})
        notes = (f"speakers of DIR/{folder} train too: {', '.join(both)}",) if both else ()
        return HeldOut(f"DIR/{folder} validates", listing.train, listing.speech, listing.noise, own, notes=notes)
    if listing.kind == "paired":
        part = _by_speaker(listing.train, data.validation_speakers, 2) or _last(listing.train)
        return HeldOut(part.how, train=part.train, validation=part.held, notes=part.notes)
    long = round(_LONG_SECONDS * config.spectral.sample_rate)
    part = _by_speaker(listing.speech, data.validation_speakers, _ENOUGH_SPEAKERS) or _by_hash(
        listing.speech, "speech", long
    )
    clips = tuple(clip for clip in part.held if clip.frames >= long) or part.held
    noise = _by_hash(listing.noise, "noise", 0)
    return HeldOut(
        part.how, speech=part.train, noise=noise.train, validation=clips, validation_noise=noise.held, notes=part.notes
    )


def _by_speaker(items: tuple[ItemT, ...], chosen: tuple[str, ...], enough: int) -> _Part[ItemT] | None:
    """Hold out the chosen speakers, else the last tenth of them; None where fewer than `enough` are told apart."""
    levels = [_labelled(items, level) for level in range(1 + max((len(item.finer) for item in items), default=0))]
    if chosen:
        # The finer labels may be chosen too, also where the coarse ones would do.
        named = next((level for level in levels if set(chosen) <= _speakers(level)), levels[0])
    else:
        named = next((level for level in levels if _tells(level, items, enough)), None)
    if named is None:
        return None
    there = sorted(_speakers(named))
    unknown = sorted(set(chosen) - set(there))
    if unknown:
        shown = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
        raise UserError(f"--data.validation-speakers: no {', '.join(unknown)} in the training set; it has {shown}")
    if set(chosen) == set(there):
        raise UserError("--data.validation-speakers names every speaker: nobody is left to train on")
    held = set(chosen or there[-_tenth(len(there)) :])
    return _Part(
        f"{plural(len(there) - len(held), 'speaker')}, {len(held)} held out",
        tuple(item for item in named if item.speaker not in held),
        tuple(item for item in named if item.speaker in held),
        _doubts(named),
    )


def _labelled(items: tuple[ItemT, ...], level: int) -> tuple[ItemT, ...]:
    """The items with their labels of a level, 0 being the coarsest; the finest where an item has no more."""
    return tuple(
        replace(item, speaker=names[min(level, len(names) - 1)], finer=names[level + 1 :])
        for item in items
        for names in [(item.speaker, *item.finer)]
    )


def _tells(named: tuple[ItemT, ...], items: tuple[ItemT, ...], enough: int) -> bool:
    """Whether labels tell enough speakers apart; finer ones that name nearly every file alone tell files apart."""
    count = len(_speakers(named))
    return count >= enough and (count == len(_speakers(items)) or 2 * count <= len(items))


def _speakers(items: Iterable[Pair | Clip]) -> set[str]:
    return {item.speaker for item in items}


def _doubts(items: tuple[ItemT, ...]) -> tuple[str, ...]:
    """What suggests that the labels are not those of speakers."""
    count = len(_speakers(items))
    doubts = []
    if count == len(items) > _ENOUGH_SPEAKERS:
        doubts.append(
            "every file is taken for a speaker of its own: if that is wrong, sort the files into a folder for each "
            "speaker, or a voice may train and validate"
        )
    within: dict[str, set[str]] = {}
    for item in items:
        within.setdefault(item.speaker, set()).update(label for label in item.finer[:1] if "/" in label)
    speaker, folders = max(within.items(), key=lambda entry: len(entry[1]))
    if len(folders) > count:
        doubts.append(
            f"{speaker} is taken for one speaker and holds {len(folders)} folders: if those are the speakers, "
            f"move them up, or name that folder itself with --speech"
        )
    return tuple(doubts)


def _last(items: tuple[Pair, ...]) -> _Part[Pair]:
    """Hold out the last tenth of the files by name."""
    _require_two(len(items), "pair")
    ordered = tuple(sorted(items, key=lambda item: item.name))
    cut = len(ordered) - _tenth(len(ordered))
    return _by_file(ordered[:cut], ordered[cut:])


def _by_hash(items: tuple[Clip, ...], what: str, shortest: int) -> _Part[Clip]:
    """Hold out a tenth of the files that are long enough, as a hash of the name has it.

    Neighbours by name often come from one recording session or one kind of noise; the hash takes some of each.
    """
    _require_two(len(items), f"{what} file")
    candidates = [item for item in items if item.frames >= shortest] or list(items)
    candidates.sort(key=lambda item: hashlib.sha256(item.name.encode(errors="surrogateescape")).digest())
    held = {item.name for item in candidates[: _tenth(len(candidates))]}
    return _by_file(
        tuple(item for item in items if item.name not in held),
        tuple(item for item in items if item.name in held),
    )


def _by_file(train: tuple[ItemT, ...], held: tuple[ItemT, ...]) -> _Part[ItemT]:
    known = ", ".join(sorted(_speakers((*train, *held))))
    return _Part(
        f"{len(held)} of {len(train) + len(held)} files held out",
        train,
        held,
        (
            f"too few speakers are told apart by folders or names ({known}): files are held out, and their voices "
            "train too; sort the files into a folder for each speaker, or put others into DIR/validation/{clean,noisy}",
        ),
    )


def _tenth(count: int) -> int:
    return max(1, count // _SHARE)


def _require_two(count: int, what: str) -> None:
    if count < 2:
        raise UserError(
            f"there is one usable {what} only, and validation needs one of its own: add more, "
            "or put a validation set into DIR/validation/{clean,noisy}"
        )
