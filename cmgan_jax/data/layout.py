"""The supported folder layouts, and the listing of a folder's files with partners matched by name; none is opened.

paired   DIR/train/{clean,noisy}, DIR/test/{clean,noisy}       (VoiceBank+DEMAND as it is prepared for 16 kHz)
mixed    DIR/speech/**, DIR/noise/**                           or lists of such folders
both     DIR/validation/{clean,noisy}, where it exists, is the validation set
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cmgan_jax.data import sources
from cmgan_jax.data.corpus import Clip, CorpusSource, Kind, Pair, Problem
from cmgan_jax.data.folders import RECORDINGS, by_name, walk
from cmgan_jax.errors import UserError, printable

_LAYOUTS = (
    "a corpus is one of:\n"
    "  DIR/train/clean and DIR/train/noisy (and DIR/test/clean, DIR/test/noisy): pairs with equal names\n"
    "  DIR/speech and DIR/noise: mixed on the fly\n"
    "  `cmgan prepare pairs DIR --out DIR` (or `speech …`) makes one of your own recordings"
)


@dataclass(frozen=True)
class Listing:
    """The files of a corpus.

    Attributes:
        kind: name of the layout.
        manifest: path of the corpus's own manifest, if it has one.
        train: pairs of DIR/train.
        speech: clean speech of a mixed corpus.
        noise: noise of a mixed corpus.
        validation: pairs of DIR/validation.
        test: pairs of DIR/test.
        problems: files without a partner, or with two, and folders that cannot be read.
        passed_over: number of files that are not recordings, by suffix (see `folders.FolderListing`).
    """

    kind: Kind
    manifest: Path | None = None
    train: tuple[Pair, ...] = ()
    speech: tuple[Clip, ...] = ()
    noise: tuple[Clip, ...] = ()
    validation: tuple[Pair, ...] = ()
    test: tuple[Pair, ...] = ()
    problems: tuple[Problem, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)


def find(source: CorpusSource) -> Listing:
    """List the files of a corpus.

    Args:
        source: a folder in one of the layouts, or lists of folders.

    Returns:
        The listing; its files are not measured yet.

    Raises:
        UserError: a folder is missing or unreadable, has none of the layouts, or holds no audio.
    """
    if source.data is None:
        if not (source.speech and source.noise):
            raise UserError("nothing to train on: name --data DIR, or --speech DIR… together with --noise DIR…")
        return _find_mixed(source.speech, source.noise)
    if source.speech or source.noise:
        raise UserError("--data stands alone: leave it out, or leave out --speech and --noise")
    root = source.data
    if not root.is_dir():
        raise UserError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; {_LAYOUTS}")
    passed_over: Counter[str] = Counter()
    validation, problems = _optional_pairs(root / "validation", passed_over)
    manifest = root / "manifest.json"
    if _has_pairs(root / "train"):
        train, train_problems = _pairs(root / "train", passed_over)
        test, test_problems = _optional_pairs(root / "test", passed_over)
        return Listing(
            "paired",
            manifest,
            train=train,
            validation=validation,
            test=test,
            problems=(*train_problems, *problems, *test_problems),
            passed_over=passed_over,
        )
    if (root / "speech").is_dir() and (root / "noise").is_dir():
        mixed = _mixed((root / "speech",), (root / "noise",))
        return replace(
            mixed,
            manifest=manifest,
            validation=validation,
            problems=(*mixed.problems, *problems),
            passed_over=Counter(mixed.passed_over) + passed_over,
        )
    found = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in root.iterdir())
    shown = ", ".join(map(printable, found[:8])) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    raise UserError(f"{root} is not a corpus: it holds {shown or 'nothing'}; {_LAYOUTS}")


def relative_paths(listing: Listing) -> Iterator[tuple[str, Path, int]]:
    """Yield each file's path within the corpus (independent of the corpus's location), its path, and its samples."""
    parts = (("train", listing.train), ("validation", listing.validation), ("test", listing.test))
    for part, pairs in parts:
        for pair in pairs:
            for side, path in (("clean", pair.clean), ("noisy", pair.noisy)):
                yield f"{part}/{side}/{pair.name}{path.suffix}", path, pair.frames
    for part, clips in (("speech", listing.speech), ("noise", listing.noise)):
        for clip in clips:
            yield f"{part}/{clip.name}{clip.path.suffix}", clip.path, clip.frames


def _find_mixed(speech: tuple[Path, ...], noise: tuple[Path, ...]) -> Listing:
    for option, folders in (("--speech", speech), ("--noise", noise)):
        for folder in folders:
            if not folder.is_dir():
                raise UserError(f"{option} {folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    listing = _mixed(speech, noise)
    both = {os.path.realpath(c.path) for c in listing.speech} & {os.path.realpath(c.path) for c in listing.noise}
    if both:
        count = f", and so are {len(both) - 1} other files" if len(both) > 1 else ""
        raise UserError(
            f"{printable(min(both))} is named by --speech and by --noise{count}: it can be only one of them"
        )
    return listing


def _mixed(speech: tuple[Path, ...], noise: tuple[Path, ...]) -> Listing:
    passed_over: Counter[str] = Counter()
    clips, problems = _clips(speech, passed_over)
    noises, noise_problems = _clips(noise, passed_over)
    return Listing("mixed", speech=clips, noise=noises, problems=problems + noise_problems, passed_over=passed_over)


def _has_pairs(folder: Path) -> bool:
    return (folder / "clean").is_dir() and (folder / "noisy").is_dir()


def _optional_pairs(folder: Path, passed_over: Counter[str]) -> tuple[tuple[Pair, ...], tuple[Problem, ...]]:
    return _pairs(folder, passed_over) if _has_pairs(folder) else ((), ())


def _pairs(folder: Path, passed_over: Counter[str]) -> tuple[tuple[Pair, ...], tuple[Problem, ...]]:
    problems: list[Problem] = []
    sides: dict[str, dict[str, Path]] = {"clean": {}, "noisy": {}}
    for side, named in sides.items():
        for name, (path, *others) in by_name(folder / side, _recordings(folder / side, problems, passed_over)).items():
            named[name] = path
            problems += [_namesake(other, path) for other in others]
    for side, other in (("clean", "noisy"), ("noisy", "clean")):
        problems += [
            Problem(path, f"no partner of that name in {folder / other}")
            for name, path in sides[side].items()
            if name not in sides[other]
        ]
    if not sides["clean"] and not sides["noisy"]:
        raise UserError(f"{folder}/clean and {folder}/noisy hold no audio ({' '.join(RECORDINGS)})")
    pairs = tuple(
        Pair(name, path, sides["noisy"][name], 0, *sources.labels(name))
        for name, path in sides["clean"].items()
        if name in sides["noisy"]
    )
    return pairs, tuple(problems)


def _clips(folders: tuple[Path, ...], passed_over: Counter[str]) -> tuple[tuple[Clip, ...], tuple[Problem, ...]]:
    """List all clips below the folders, sorted by name; a file that is reached twice counts once."""
    own_names = [os.path.basename(os.path.realpath(folder)) for folder in folders]
    distinct = len(set(own_names)) == len(folders)
    clips: dict[str, Clip] = {}
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, (folder, own) in enumerate(zip(folders, own_names, strict=True), 1):
        # Names stay unique when several folders are given, even where those folders have the same name.
        prefix = "" if len(folders) == 1 else f"{own}/" if distinct else f"{number}-{own}/"
        found = by_name(folder, _recordings(folder, problems, passed_over))
        if not found:
            raise UserError(f"{folder} holds no audio ({' '.join(RECORDINGS)})")
        for inner, (path, *others) in found.items():
            problems += [_namesake(other, path) for other in others]
            real = os.path.realpath(path)
            if real in seen:
                continue
            seen.add(real)
            clips[prefix + inner] = Clip(prefix + inner, path, 0, *sources.labels(inner, own))
    return tuple(clips[name] for name in sorted(clips)), tuple(problems)


def _recordings(folder: Path, problems: list[Problem], passed_over: Counter[str]) -> tuple[Path, ...]:
    """List the recordings below a folder; unreadable places are added to `problems`, other files are counted."""
    found = walk(folder)
    problems += [Problem(path, reason) for path, reason in found.unreadable]
    passed_over.update(found.passed_over)
    return found.files


def _namesake(path: Path, other: Path) -> Problem:
    return Problem(path, f"has the name of {printable(other.name)} beside it: remove one")
