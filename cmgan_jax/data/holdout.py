"""Who validates: held-out speakers or files and recordings of noise, or a set of its own; never what also trains."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from cmgan_jax.config import Config
from cmgan_jax.data import sources as speakers
from cmgan_jax.data.corpus import Clip, Pair, plural
from cmgan_jax.data.identity import together
from cmgan_jax.data.layout import Listing
from cmgan_jax.data.sources import recording
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
    part = _by_speaker(listing.speech, data.validation_speakers, _ENOUGH_SPEAKERS) or _by_hash(listing.speech, long)
    clips = tuple(clip for clip in part.held if clip.frames >= long) or part.held
    noise = _by_recording(listing.noise)
    return HeldOut(
        f"{part.how}; {noise.how}",
        speech=part.train,
        noise=noise.train,
        validation=clips,
        validation_noise=noise.held,
        notes=part.notes + noise.notes,
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
    voices = sorted(together(named, _speaker), key=lambda group: min(_speakers(group)))
    held = [group for group in voices if not _speakers(group).isdisjoint(chosen)] or voices[-_tenth(len(voices)) :]
    if len(held) == len(voices):
        shared = "" if set(chosen) == set(there) else ", or shares files with those that it does not name"
        raise UserError(f"--data.validation-speakers names every speaker{shared}: nobody is left to train on")
    return _Part(
        f"{plural(len(voices) - len(held), 'speaker')}, {len(held)} held out",
        *_split(named, held),
        _doubts(named, voices),
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
    coarsest = len(_speakers(named)) == len(_speakers(items))
    return len(together(named, _speaker)) >= enough and (coarsest or 2 * len(_speakers(named)) <= len(items))


def _speaker(item: Pair | Clip) -> str:
    return item.speaker


def _speakers(items: Iterable[Pair | Clip]) -> set[str]:
    return {item.speaker for item in items}


def _doubts(items: Sequence[Pair | Clip], voices: Sequence[Sequence[Pair | Clip]]) -> tuple[str, ...]:
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
    doubts += [
        f"{', '.join(sorted(_speakers(group)))} hold files with the same samples, so they train or validate together"
        for group in voices
        if len(_speakers(group)) > 1
    ]
    return tuple(doubts)


def _last(items: tuple[Pair, ...]) -> _Part[Pair]:
    """Hold out the last tenth of the files by name."""
    groups = sorted(together(items, _name), key=lambda group: min(map(_name, group)), reverse=True)
    return _by_file(items, groups, "pair", _tenth(len(items)))


def _by_hash(items: tuple[Clip, ...], shortest: int) -> _Part[Clip]:
    """Hold out a tenth of the files that are long enough, as a hash of the name has it."""
    candidates = [item for item in items if item.frames >= shortest] or list(items)
    return _by_file(items, sorted(together(candidates, _name), key=_hash), "speech file", _tenth(len(candidates)))


def _by_recording(items: tuple[Clip, ...]) -> _Part[Clip]:
    """Hold out recordings of noise that make about a tenth of the files, as a hash of the name has it."""
    recordings = sorted(together(items, lambda item: recording(item.name)), key=_hash)
    if len(recordings) > 1:
        held = _about(recordings, _tenth(len(items)))
        how = f"{plural(len(held), 'recording')} of noise held out, no take of which trains"
        return _Part(how, *_split(items, held))
    files = sorted(together(items, _name), key=_hash)
    _require_two(len(files), "noise file")
    held = _about(files, _tenth(len(items)))
    note = (
        "all noise has the names of takes of one recording, such as "
        f"{items[0].name}: files are held out, and takes of their recording may train; give each recording a name or "
        "folder of its own, or put a validation set into DIR/validation/{clean,noisy}"
    )
    return _Part(f"{plural(sum(map(len, held)), 'file')} of noise held out", *_split(items, held), (note,))


def noise_held_out_before(noise: Sequence[Clip]) -> set[str]:
    """Names of the noise that runs held out before recordings counted: a tenth of the files, takes or not."""
    names = sorted(clip.name for clip in noise)
    names.sort(key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())
    return set(names[: _tenth(len(names))])


def _by_file(items: tuple[ItemT, ...], groups: list[list[ItemT]], what: str, count: int) -> _Part[ItemT]:
    _require_two(len(groups), what)
    train, held = _split(items, _about(groups, count))
    known = ", ".join(sorted(_speakers(items)))
    note = (
        f"too few speakers are told apart by folders or names, or they share files ({known}): files are held out, and "
        "their voices train too; sort the files into a folder for each speaker, or put others into "
        "DIR/validation/{clean,noisy}"
    )
    return _Part(f"{len(held)} of {plural(len(items), 'file')} held out", train, held, (note,))


def _about(groups: list[list[ItemT]], count: int) -> list[list[ItemT]]:
    """The first groups that together have at most so many items, passing over larger ones; else the smallest group."""
    chosen = []
    for group in groups:
        if len(group) <= count:
            chosen.append(group)
            count -= len(group)
    return chosen or [min(groups, key=len)]


def _split(items: tuple[ItemT, ...], held: list[list[ItemT]]) -> tuple[tuple[ItemT, ...], tuple[ItemT, ...]]:
    """The items that are in none of the groups, and those that are."""
    names = {item.name for group in held for item in group}
    return (
        tuple(item for item in items if item.name not in names),
        tuple(item for item in items if item.name in names),
    )


def _name(item: Pair | Clip) -> str:
    return item.name


def _hash(group: list[Clip]) -> bytes:
    """Neighbours by name often come from one session or one kind of noise; an order by hash takes some of each."""
    return hashlib.sha256(min(map(_name, group)).encode(errors="surrogateescape")).digest()


def _tenth(count: int) -> int:
    return max(1, count // _SHARE)


def _require_two(count: int, what: str) -> None:
    if count < 2:
        raise UserError(
            f"there is one usable {what} only, but for those with the same samples, and validation needs one of its "
            "own: add more, or put a validation set into DIR/validation/{clean,noisy}"
        )
