"""The division into training and validation data: by speaker, file or noise recording, never with a file in both."""

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
"""One in this many speakers or files is held out."""
_ENOUGH_SPEAKERS = 4
"""With fewer speakers than this, files are held out instead, as training would miss a whole voice too much."""
_LONG_SECONDS = 2.0
"""Clips at least this long are preferred for validation, because scores of shorter ones are unreliable."""


@dataclass(frozen=True)
class HeldOut:
    """A divided listing; the fields are those of `Corpus`."""

    hold_out: str
    train: tuple[Pair, ...] = ()
    speech: tuple[Clip, ...] = ()
    noise: tuple[Clip, ...] = ()
    validation: tuple[Pair, ...] | tuple[Clip, ...] = ()
    validation_noise: tuple[Clip, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part(Generic[ItemT]):
    """Items of one kind, divided: the method, the training items, those held out, and remarks for the user."""

    how: str
    train: tuple[ItemT, ...]
    held: tuple[ItemT, ...]
    notes: tuple[str, ...] = ()


def hold_out(listing: Listing, config: Config) -> HeldOut:
    """Divide the files of a corpus into training and validation data.

    DIR/validation is the validation set where it exists; otherwise whole speakers are held out, or files where there
    are too few speakers. Held-out speech clips that are too short to score are used for neither.

    Args:
        listing: the measured files.
        config: gives `data.validation_speakers` and `data.validate_on_test`.

    Returns:
        The division; it depends on names and lengths only, so it does not change with the corpus's location.

    Raises:
        UserError: what the configuration asks for does not exist, or one part gets too little.
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
    """Hold out the chosen speakers, else the last tenth of them; None with fewer than `enough` speakers."""
    levels = [_labelled(items, level) for level in range(1 + max((len(item.finer) for item in items), default=0))]
    if chosen:
        # The finer labels may be chosen too, even where the coarse ones would do.
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
    """Relabel items at a level of detail, 0 being the coarsest; an item without that many gets its finest label."""
    return tuple(
        replace(item, speaker=names[min(level, len(names) - 1)], finer=names[level + 1 :])
        for item in items
        for names in [(item.speaker, *item.finer)]
    )


def _tells(named: tuple[ItemT, ...], items: tuple[ItemT, ...], enough: int) -> bool:
    """Whether labels tell enough speakers apart; labels that differ for nearly every file only identify files."""
    coarsest = len(_speakers(named)) == len(_speakers(items))
    return len(together(named, _speaker)) >= enough and (coarsest or 2 * len(_speakers(named)) <= len(items))


def _speaker(item: Pair | Clip) -> str:
    return item.speaker


def _speakers(items: Iterable[Pair | Clip]) -> set[str]:
    return {item.speaker for item in items}


def _doubts(items: Sequence[Pair | Clip], voices: Sequence[Sequence[Pair | Clip]]) -> tuple[str, ...]:
    """Collect signs that the labels are not those of speakers."""
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
    """Hold out a tenth of the files that are long enough, chosen by a hash of the name."""
    candidates = [item for item in items if item.frames >= shortest] or list(items)
    return _by_file(items, sorted(together(candidates, _name), key=_hash), "speech file", _tenth(len(candidates)))


def _by_recording(items: tuple[Clip, ...]) -> _Part[Clip]:
    """Hold out recordings of noise that make up about a tenth of the files, chosen by a hash of the name."""
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
    """Names of the noise that earlier versions held out: a tenth of the files, even if takes of one recording."""
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
    """Take the first groups that total at most `count` items, skipping larger ones; else the smallest group."""
    chosen = []
    for group in groups:
        if len(group) <= count:
            chosen.append(group)
            count -= len(group)
    return chosen or [min(groups, key=len)]


def _split(items: tuple[ItemT, ...], held: list[list[ItemT]]) -> tuple[tuple[ItemT, ...], tuple[ItemT, ...]]:
    """Split items into those in none of the groups, and those in one."""
    names = {item.name for group in held for item in group}
    return (
        tuple(item for item in items if item.name not in names),
        tuple(item for item in items if item.name in names),
    )


def _name(item: Pair | Clip) -> str:
    return item.name


def _hash(group: list[Clip]) -> bytes:
    """A sort key by hash: neighbours by name often share a session or a kind of noise, and a hash mixes them."""
    return hashlib.sha256(min(map(_name, group)).encode(errors="surrogateescape")).digest()


def _tenth(count: int) -> int:
    return max(1, count // _SHARE)


def _require_two(count: int, what: str) -> None:
    if count < 2:
        raise UserError(
            f"there is one usable {what} only, but for those with the same samples, and validation needs one of its "
            "own: add more, or put a validation set into DIR/validation/{clean,noisy}"
        )
