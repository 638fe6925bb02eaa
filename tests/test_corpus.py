"""Layouts, partners, held-out parts and fingerprints, on small corpora made here."""

import os
import re
import shutil
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgan_jax.config import Config
from cmgan_jax.data import audio, layout, pipeline
from cmgan_jax.data.corpus import Corpus, CorpusSource, fingerprint
from cmgan_jax.data.folders import walk
from cmgan_jax.data.holdout import hold_out
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.sources import recording
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config, override

RATE = 16_000


def tiny(**numbers: Any) -> Config:
    return override(make_config(preset="tiny"), {f"data.{name}": value for name, value in numbers.items()})


def tone(path: Path, frames: int = 4000) -> None:
    """Samples of each file's own: of its name and the two folders above it."""
    seed = zlib.crc32(unicodedata.normalize("NFC", "/".join(path.parts[-3:])).encode(errors="surrogateescape"))
    audio.write(path, 0.1 * np.sin(np.arange(frames) * 0.1 + seed), RATE)


def paired(root: Path, names: list[str], part: str = "train") -> Path:
    for name in names:
        for side in ("clean", "noisy"):
            tone(root / part / side / f"{name}.wav")
    return root


def mixed(root: Path, speech: list[str], noise: list[str], frames: int = 4000) -> Path:
    for name in speech:
        tone(root / "speech" / f"{name}.wav", frames)
    for name in noise:
        tone(root / "noise" / f"{name}.flac")
    return root


def names(items: Any) -> list[str]:
    return [item.name for item in items]


def files(corpus: Corpus) -> tuple[set[Path], set[Path]]:
    """The files that train, and those that validate."""

    def of(items: Any) -> set[Path]:
        return {
            path for item in items for path in ((item.clean, item.noisy) if hasattr(item, "clean") else [item.path])
        }

    return (
        of(corpus.train) | of(corpus.speech) | of(corpus.noise),
        of(corpus.validation) | of(corpus.validation_noise),
    )


def test_pairs_match_by_name_whatever_the_suffix_or_folder(tmp_path: Path) -> None:
    tone(tmp_path / "train/clean/p1_1.wav")
    tone(tmp_path / "train/noisy/p1_1.flac")
    tone(tmp_path / "train/clean/more/p2_1.flac")
    tone(tmp_path / "train/noisy/more/p2_1.flac")
    (tmp_path / "train/clean/README.txt").write_text("not audio")
    listing = layout.find(CorpusSource(tmp_path))
    assert (listing.kind, listing.problems) == ("paired", ())
    assert [(p.name, p.speaker, p.noisy.suffix) for p in listing.train] == [
        ("more/p2_1", "p2", ".flac"),
        ("p1_1", "p1", ".flac"),
    ]


def test_missing_partners_and_namesakes_are_problems_of_their_file(tmp_path: Path) -> None:
    paired(tmp_path, ["p1_1", "p2_1"])
    tone(tmp_path / "train/clean/p1_2.wav")
    tone(tmp_path / "train/noisy/p1_3.wav")
    tone(tmp_path / "train/noisy/p1_1.flac")
    found = {p.path.relative_to(tmp_path).as_posix(): p.reason for p in layout.find(CorpusSource(tmp_path)).problems}
    assert set(found) == {"train/clean/p1_2.wav", "train/noisy/p1_3.wav", "train/noisy/p1_1.wav"}
    assert found["train/clean/p1_2.wav"] == f"no partner of that name in {tmp_path}/train/noisy"
    assert "name of p1_1.flac" in found["train/noisy/p1_1.wav"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda d: d / "absent", "no such folder"),
        (lambda d: (tone(d / "a.wav"), d / "a.wav")[1], "not a folder"),
        (lambda d: d, "holds nothing"),
        (lambda d: (tone(d / "wavs/a.wav"), (d / "x.txt").touch(), d)[2], r"it holds wavs/, x\.txt"),
        (lambda d: (tone(d / "train/clean/a.wav"), d)[1], "DIR/train/noisy"),
        (lambda d: ([(d / "train" / s).mkdir(parents=True) for s in ("clean", "noisy")], d)[1], "hold no audio"),
        (lambda d: (mixed(d, ["a"], []), (d / "noise").mkdir(), d)[2], "noise holds no audio"),
    ],
)
def test_what_is_no_corpus_is_told_with_what_was_looked_for(
    tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(UserError, match=told) as caught:
        layout.find(CorpusSource(path))
    assert str(tmp_path) in str(caught.value)


def test_sources_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    mixed(tmp_path, ["a"], ["b"])
    speech, noise = tmp_path / "speech", tmp_path / "noise"
    for source, told in (
        (CorpusSource(), "nothing to train on"),
        (CorpusSource(speech=(speech,)), "together with --noise"),
        (CorpusSource(tmp_path, (speech,), (noise,)), "stands alone"),
        (CorpusSource(speech=(tmp_path / "no",), noise=(noise,)), "--speech .*no: no such folder"),
        (CorpusSource(speech=(speech,), noise=(tmp_path,)), "by --speech and by --noise"),
    ):
        with pytest.raises(UserError, match=told):
            layout.find(source)


def test_held_out_speakers_are_the_last_tenth(tmp_path: Path) -> None:
    paired(tmp_path, [f"p{200 + s}_{k}" for s in range(21) for k in range(2)])
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert names(corpus.validation) == ["p219_0", "p219_1", "p220_0", "p220_1"]
    assert len(corpus.train) == 38
    chosen = open_corpus(CorpusSource(tmp_path), tiny(validation_speakers=("p205",)))
    assert names(chosen.validation) == ["p205_0", "p205_1"]
    assert chosen.fingerprint == corpus.fingerprint
    with pytest.raises(UserError, match="no p999 in the training set; it has p200, p201"):
        open_corpus(CorpusSource(tmp_path), tiny(validation_speakers=("p205", "p999")))


def test_one_speaker_holds_out_files(tmp_path: Path) -> None:
    paired(tmp_path, [f"p200_{k}" for k in range(5)])
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert names(corpus.validation) == ["p200_4"]
    with pytest.raises(UserError, match="names every speaker"):
        open_corpus(CorpusSource(tmp_path), tiny(validation_speakers=("p200",)))


@pytest.mark.parametrize(
    "folders",
    [
        pytest.param("{voice}/{k}", id="a folder a speaker"),
        pytest.param("all/{voice}/chapter{k}/x", id="below a folder that holds all"),
        pytest.param("{voice}1-121119-{k}", id="an identifier before the number"),
        pytest.param(
            "book_{k}_reader_0{voice}_seg_{k}".replace("{voice}", "{number}"), id="an identifier that says so"
        ),
    ],
)
@pytest.mark.parametrize("kind", ["paired", "mixed"])
def test_voices_are_held_out_whole_however_they_are_told(tmp_path: Path, folders: str, kind: str) -> None:
    """Twenty voices with three files each: two of them are a tenth, and none of their files trains."""
    voices = "abcdefghijklmnopqrst"
    every = [folders.format(voice=voice, k=k, number=f"{n:02d}") for n, voice in enumerate(voices) for k in range(3)]
    paired(tmp_path, every) if kind == "paired" else mixed(tmp_path, every, ["hum/1", "hum/2"])
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert sorted(names(corpus.validation)) == sorted(every[-6:])
    assert len(corpus.items) == 54
    assert "18 speakers, 2 held out" in corpus.describe()
    labels = sorted({item.speaker for item in corpus.validation})
    chosen = open_corpus(CorpusSource(tmp_path), tiny(validation_speakers=(labels[0],)))
    assert sorted(names(chosen.validation)) == sorted(every[-6:-3])


def test_what_was_taken_for_a_speaker_is_told_where_it_is_doubtful(tmp_path: Path) -> None:
    sources = [f"{source}/{number}/x" for source in "abcd" for number in range(6 if source == "b" else 2)]
    nested = open_corpus(CorpusSource(mixed(tmp_path / "nested", sources, ["hum/1", "hum/2"])), tiny()).describe()
    assert "speakers:   b (6 files), a (2 files), c (2 files), d (2 files)" in nested
    assert "b is taken for one speaker and holds 6 folders: if those are the speakers" in nested
    alone = paired(tmp_path / "alone", [f"{number}/x" for number in range(6)])
    assert "every file is taken for a speaker of its own" in open_corpus(CorpusSource(alone), tiny()).describe()
    told = open_corpus(CorpusSource(paired(tmp_path / "flat", ["rain", "snow", "wind"])), tiny()).describe()
    assert "1 of 3 files held out" in told
    assert "too few speakers are told apart by folders or names, or they share files (unknown)" in told
    good = paired(tmp_path / "good", [f"{number}/{k}" for number in range(6) for k in range(2)])
    assert "note" not in open_corpus(CorpusSource(good), tiny()).describe()


def copied(path: Path, to: Path) -> None:
    """The same samples in a file of another kind."""
    audio.write(to, audio.read(path), RATE)


def linked(path: Path, to: Path) -> None:
    to.symlink_to(path)


@pytest.mark.parametrize("again", [copied, linked], ids=["copied", "linked"])
@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("kind", ["paired", "mixed"])
def test_what_validates_or_tests_does_not_train_too(
    tmp_path: Path, kind: str, part: str, again: Callable[[Path, Path], None]
) -> None:
    """It is named, and --skip-bad leaves it out of training, so that scores stay comparable."""
    trained = ["p1_1", "p2_1", "p3_1"]
    paired(tmp_path, trained) if kind == "paired" else mixed(tmp_path, trained, ["hum/1", "hum/2"])
    paired(tmp_path, ["p8_1", "p9_1"], part)
    train = tmp_path / ("train/clean" if kind == "paired" else "speech")
    suffix = ".flac" if again is copied else ".wav"
    held = tmp_path / part / "clean" / f"p7_1{suffix}"
    again(train / "p2_1.wav", held)
    tone(tmp_path / part / "noisy" / f"p7_1{suffix}")
    if kind == "mixed" and part == "test":
        # A mixed corpus has no test set.
        assert len(open_corpus(CorpusSource(tmp_path), tiny()).speech) == 2
        return
    with pytest.raises(UserError) as refused:
        open_corpus(CorpusSource(tmp_path), tiny())
    assert f"{train}/p2_1.wav: the same samples as {held}" in str(refused.value)
    corpus = open_corpus(CorpusSource(tmp_path), tiny(), skip_bad=True)
    assert "p2_1" not in names((*corpus.items, *(corpus.validation if part == "test" else ())))
    assert "p7_1" in names(corpus.validation if part == "validation" else corpus.test)


def test_a_file_of_speech_that_is_noise_too_is_no_noise(tmp_path: Path) -> None:
    mixed(tmp_path, ["a/1", "b/1"], ["hum/1", "hum/2"])
    copied(tmp_path / "speech/b/1.wav", tmp_path / "noise/b.flac")
    with pytest.raises(UserError, match=r"noise/b\.flac: the same samples as .*speech/b/1\.wav, which is speech"):
        open_corpus(CorpusSource(tmp_path), tiny())


def test_pairs_with_one_clean_file_train_or_validate_together(tmp_path: Path) -> None:
    """Ten sentences, each at three levels of noise, whatever the speakers are told by: no sentence does both."""
    for layout_of in ("{snr}/{k}", "{k}_{snr}", "{snr}/{k}x/x"):
        root = tmp_path / layout_of.replace("/", "-")
        paired(root, [f"{k}" for k in range(10)], "store")
        for k in range(10):
            for snr in ("quiet", "middling", "loud"):
                name = layout_of.format(snr=snr, k=k)
                tone(root / "train/noisy" / f"{name}.wav")
                copied(root / f"store/clean/{k}.wav", root / "train/clean" / f"{name}.wav")
        corpus = open_corpus(CorpusSource(root), tiny())
        train, held = ({pair.contents[0] for pair in part} for part in (corpus.train, corpus.validation))
        assert (len(train), len(held)) == (9, 1), layout_of
        assert (len(corpus.train), len(corpus.validation)) == (27, 3)


def test_validation_on_the_test_set_and_pairs_without_noise_are_noted(tmp_path: Path) -> None:
    for part in ("validation", "test"):
        paired(tmp_path, ["p1_1"], part)
    copied(tmp_path / "test/clean/p1_1.wav", tmp_path / "validation/clean/p1_1.wav")
    paired(tmp_path, ["p2_1", "p3_1"])
    copied(tmp_path / "train/clean/p2_1.wav", tmp_path / "train/noisy/p2_1.wav")
    told = open_corpus(CorpusSource(tmp_path), tiny()).describe()
    assert "1 of 1 pairs of DIR/validation are in DIR/test too" in told
    assert "1 of 3 pairs are without noise" in told


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1-211527-A", "Baby_cry_4-211527-C"),  # ESC-10, and as it lies in ../shared
        ("a/1-100032-A-0", "b/1-100032-B-0"),  # ESC-50
        ("fold1/100032-3-0-0", "fold2/100032-3-0-12"),  # UrbanSound8K: Freesound's identifier, class, take, slice
        ("DKITCHEN/ch01", "DKITCHEN/ch16"),  # DEMAND: the channels of one recording
        ("airport-barcelona-0-0-a", "airport-barcelona-0-12-b"),  # TAU urban acoustic scenes: place, segment, device
        ("Babble_4", "Babble_11"),  # MS-SNSD
        ("cafe_1", "cafe_0002"),
        ("cafe", "cafe (2)"),
        ("cafe-part1", "cafe_take_3"),
        ("cafe_00m30s-01m00s", "cafe_01m00s-01m30s"),
        ("street_L", "street_R"),
        ("street_1of2", "Street_2of2"),
        ("01_cafe", "02_cafe"),
        ("typing0", "typing12"),
        ("part1/rain", "part2/rain"),
    ],
)
def test_takes_of_one_recording_are_recognised(one: str, other: str) -> None:
    assert recording(one) == recording(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1-211527-A", "1-22694-A"),
        ("100032-3-0-0", "100263-3-0-0"),
        ("door_Freesound_validated_383849_0", "door_Freesound_validated_383850_0"),
        ("DKITCHEN/ch01", "PCAFETER/ch01"),
        ("rain", "rain-on-tent"),
        ("blanket/rain", "noisekun/rain"),
        ("cafe_1", "street_1"),
    ],
)
def test_recordings_are_kept_apart(one: str, other: str) -> None:
    assert recording(one) != recording(other)


def test_no_take_of_a_held_out_recording_trains(tmp_path: Path) -> None:
    """Thirty recordings of ESC's kind with two takes each: a tenth of the files is three recordings, takes and all."""
    takes = [f"rain/{k % 5}-{10_000 + k}-{take}" for k in range(30) for take in "AB"]
    mixed(tmp_path, [f"{voice}/{k}" for voice in "abcd" for k in range(2)], takes)
    # A copy of another name is of the same recording.
    held = open_corpus(CorpusSource(tmp_path), tiny()).validation_noise[0]
    copied(held.path, tmp_path / "noise/thunder.flac")
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    train, held = ({recording(clip.name) for clip in part} for part in (corpus.noise, corpus.validation_noise))
    assert not train & held
    assert not {c for clip in corpus.noise for c in clip.contents} & {
        c for clip in corpus.validation_noise for c in clip.contents
    }
    assert 2 <= len(held) <= 4
    assert len(corpus.noise) + len(corpus.validation_noise) == 61
    assert re.search(
        r"hold-out:   3 speakers, 1 held out; \d recordings of noise held out, no take of which trains",
        corpus.describe(),
    )


def test_noise_that_names_tell_to_be_one_recording_is_held_out_by_file_and_says_so(tmp_path: Path) -> None:
    mixed(tmp_path, ["a/1", "b/1"], [f"hum_{k}" for k in range(20)])
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert (len(corpus.noise), len(corpus.validation_noise)) == (18, 2)
    assert "2 files of noise held out" in corpus.describe()
    assert "all noise has the names of takes of one recording" in corpus.describe()


def test_real_noise_is_held_out_by_recording(shared: Path) -> None:
    """ESC-10's 400 clips are cut from 304 recordings of Freesound; the thirteen others are recordings of their own."""
    listing = layout.find(CorpusSource(shared / "corpus"))
    held = hold_out(replace(listing, speech=listing.speech[:600]), tiny())
    train, held = ({recording(clip.name) for clip in part} for part in (held.noise, held.validation_noise))
    assert len(train) + len(held) == 304 + 13
    assert not train & held


def test_a_speaker_who_validates_in_a_folder_and_trains_is_named(tmp_path: Path) -> None:
    paired(paired(tmp_path, ["p1_1", "p2_1", "x"]), ["p2_2", "p3_1", "y"], "validation")
    assert "speakers of DIR/validation train too: p2\n" in open_corpus(CorpusSource(tmp_path), tiny()).describe()


def test_a_single_pair_cannot_train_and_validate(tmp_path: Path) -> None:
    paired(tmp_path, ["p200_1"])
    with pytest.raises(UserError, match="one usable pair only"):
        open_corpus(CorpusSource(tmp_path), tiny())


def test_the_test_set_validates_only_when_asked(tmp_path: Path) -> None:
    paired(paired(tmp_path, ["p1_1", "p2_1"]), ["p3_1"], "test")
    assert names(open_corpus(CorpusSource(tmp_path), tiny()).validation) == ["p2_1"]
    corpus = open_corpus(CorpusSource(tmp_path), tiny(validate_on_test=True))
    assert names(corpus.validation) == ["p3_1"]
    assert names(corpus.train) == ["p1_1", "p2_1"]
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(UserError, match="no usable DIR/test"):
        open_corpus(CorpusSource(tmp_path), tiny(validate_on_test=True))


@pytest.mark.parametrize("kind", ["paired", "mixed"])
def test_a_validation_folder_validates(tmp_path: Path, kind: str) -> None:
    if kind == "paired":
        paired(tmp_path, ["p1_1"])
    else:
        mixed(tmp_path, ["a"], ["b"])
    paired(tmp_path, ["v1", "v2"], "validation")
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert names(corpus.validation) == ["v1", "v2"]
    assert len(corpus.items) == 1
    assert corpus.validation_noise == ()
    with pytest.raises(UserError, match="has no use where DIR/validation"):
        open_corpus(CorpusSource(tmp_path), tiny(validation_speakers=("p1",)))


def test_mixed_corpora_hold_out_a_voice_when_there_are_four(tmp_path: Path) -> None:
    mixed(tmp_path, [f"{voice}/{k}/x" for voice in "abcd" for k in range(2)], ["hum/1", "hum/2"])
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert names(corpus.validation) == ["d/0/x", "d/1/x"]
    assert {clip.speaker for clip in corpus.speech} == {"a", "b", "c"}
    assert len(corpus.noise) == len(corpus.validation_noise) == 1


def test_fewer_voices_hold_out_long_files_by_a_stable_hash(tmp_path: Path) -> None:
    mixed(tmp_path, [f"{'abc'[k % 3]}/short{k}" for k in range(15)], [f"{k}" for k in range(20)])
    mixed(tmp_path, [f"{'abc'[k % 3]}/long{k}" for k in range(20)], [], frames=32_000)
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert len(corpus.validation) == 2
    assert all(item.frames == 32_000 for item in corpus.validation)
    assert (len(corpus.speech), len(corpus.noise), len(corpus.validation_noise)) == (33, 18, 2)
    assert {clip.speaker for clip in corpus.speech} == {"a", "b", "c"}
    elsewhere = tmp_path / "moved"
    for part in ("speech", "noise"):
        shutil.copytree(tmp_path / part, elsewhere / part)
    again = open_corpus(CorpusSource(elsewhere), tiny())
    assert names(again.validation) == names(corpus.validation)
    assert names(again.validation_noise) == names(corpus.validation_noise)


def test_training_and_validation_share_no_file(tmp_path: Path) -> None:
    paired(paired(tmp_path / "p", [f"p{s}_{k}" for s in range(3) for k in range(3)]), ["p9_9"], "test")
    mixed(tmp_path / "m", [f"{voice}/{k}" for voice in "ab" for k in range(9)], [f"{k}" for k in range(9)])
    for corpus in (
        open_corpus(CorpusSource(tmp_path / "p"), tiny()),
        open_corpus(CorpusSource(tmp_path / "p"), tiny(validate_on_test=True)),
        open_corpus(CorpusSource(tmp_path / "m"), tiny()),
        open_corpus(CorpusSource(tmp_path / "m"), tiny(validation_speakers=("a",))),
    ):
        train, validation = files(corpus)
        assert train
        assert validation
        assert not train & validation


def test_lists_of_folders_keep_names_apart_and_count_a_file_once(tmp_path: Path) -> None:
    mixed(tmp_path / "x", ["a", "deep/b"], ["n1", "n2"])
    mixed(tmp_path / "y", ["a"], [])
    tone(tmp_path / "z/c.wav")
    (tmp_path / "y/speech/again").symlink_to(tmp_path / "x/speech/deep")
    (tmp_path / "y/speech/linked").symlink_to(tmp_path / "z")
    (tmp_path / "x/speech/deep/loop").symlink_to(tmp_path / "x/speech")
    source = CorpusSource(speech=(tmp_path / "x/speech", tmp_path / "y/speech"), noise=(tmp_path / "x/noise",))
    listing = layout.find(source)
    assert names(listing.speech) == ["1-speech/a", "1-speech/deep/b", "2-speech/a", "2-speech/linked/c"]
    assert [clip.speaker for clip in listing.speech] == ["speech", "deep", "speech", "linked"]
    assert len(walk(tmp_path / "x/speech").files) == 2, "the loop was gone round"
    assert open_corpus(source, tiny()).kind == "mixed"


def test_the_fingerprint_knows_content_and_not_place(tmp_path: Path) -> None:
    def digest(root: Path) -> str:
        return open_corpus(CorpusSource(root), tiny()).fingerprint

    first = digest(paired(tmp_path / "a", ["p1_1", "p2_1"]))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert len(first) == 64
    assert digest(tmp_path / "b") == first
    (tmp_path / "b/manifest.json").write_text("{}")
    described = digest(tmp_path / "b")
    (tmp_path / "b/manifest.json").unlink()
    for side in ("clean", "noisy"):
        os.rename(tmp_path / f"b/train/{side}/p2_1.wav", tmp_path / f"b/train/{side}/p2_2.wav")
    renamed = digest(tmp_path / "b")
    for side in ("clean", "noisy"):
        tone(tmp_path / f"b/train/{side}/p2_2.wav", 4001)
    assert len({first, described, renamed, digest(tmp_path / "b")}) == 4


def test_other_content_of_equal_length_is_another_corpus(tmp_path: Path) -> None:
    """Names, sizes and lengths stay: by those alone, as before, the two were the same."""
    first = open_corpus(CorpusSource(paired(tmp_path, ["p1_1", "p2_1"])), tiny())
    path = tmp_path / "train/noisy/p1_1.wav"
    size = path.stat().st_size
    samples = audio.read(path)
    audio.write(path, -samples, RATE)
    assert path.stat().st_size == size
    second = open_corpus(CorpusSource(tmp_path), tiny())
    assert second.fingerprint != first.fingerprint
    assert second.earlier_fingerprint == first.earlier_fingerprint
    audio.write(path, samples, RATE)
    os.utime(path, (0, 0))
    assert open_corpus(CorpusSource(tmp_path), tiny()).fingerprint == first.fingerprint


def test_accents_written_in_another_way_are_the_same_corpus(tmp_path: Path) -> None:
    """A Mac decomposes the accents of names when it copies them."""
    for form in ("NFC", "NFD"):
        paired(tmp_path / form, [unicodedata.normalize(form, name) for name in ("p1_é", "p2_é")])
    composed, decomposed = (open_corpus(CorpusSource(tmp_path / form), tiny()) for form in ("NFC", "NFD"))
    assert composed.fingerprint == decomposed.fingerprint


def test_every_part_of_a_file_counts_in_the_fingerprint_and_their_order_does_not(tmp_path: Path) -> None:
    a, b = ("x/a.wav", "5a5a", 1), ("x/b.wav", "5b5b", 1)
    digest = fingerprint([a, b], None)
    assert fingerprint([b, a], None) == digest
    assert fingerprint([a, ("x/b.wav", "5b5b", 2)], None) != digest
    assert fingerprint([a, ("y/b.wav", "5b5b", 1)], None) != digest
    assert fingerprint([a, ("x/b.wav", "5a5a", 1)], None) != digest
    (tmp_path / "manifest.json").write_text("{}")
    assert fingerprint([a, b], tmp_path / "manifest.json") != digest
    assert fingerprint([a, b], tmp_path / "none.json") == digest


def test_a_corpus_describes_itself(tmp_path: Path) -> None:
    """Four pairs of 8 s and one held out: 32 s are 0.0089 h."""
    for name in ("p1_1", "p1_2", "p1_3", "p1_4", "p2_1"):
        for side in ("clean", "noisy"):
            tone(tmp_path / "train" / side / f"{name}.wav", 8 * RATE)
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert corpus.describe().splitlines() == [
        "training:   4 pairs, 32.0 s, p1",
        "validation: 1 pair, 8.0 s, p2",
        "hold-out:   1 speaker, 1 held out",
        "speakers:   p1 (4 files), p2 (1 file)",
        f"fingerprint {corpus.fingerprint[:16]}",
    ]
    assert corpus.summary()["train_hours"] == 0.0089


def test_real_corpora_are_understood(shared: Path) -> None:
    """Counts and speakers as `../shared`'s README tells them."""
    pairs = layout.find(CorpusSource(shared / "voicebank"))
    assert (len(pairs.train), len(pairs.test), {p.speaker for p in pairs.train}) == (7, 14, {"p226", "p287"})
    both = layout.find(CorpusSource(shared / "corpus"))
    assert {clip.speaker for clip in both.speech} == {"en", "es", "fr", "it", "ru"}
    assert (len(both.speech), len(both.noise), both.problems) == (2761, 413, ())


def test_names_that_are_no_utf_8_are_names_too(tmp_path: Path) -> None:
    """Bytes that another system wrote: hashed for the fingerprint, the held-out part and the fixed mixtures."""
    odd = os.fsdecode(b"\xff\xfe")
    mixed(tmp_path, [f"{odd}{i}" for i in range(4)], [f"{odd}{i}" for i in range(2)])
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert len(corpus.items) + len(corpus.validation) == 4
    assert len(pipeline.validation_crops(corpus, tiny())["clean"]) >= 1
