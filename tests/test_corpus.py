"""Layouts, partners, held-out parts and fingerprints, on small corpora made here."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgan_jax.config import Config
from cmgan_jax.data import audio, layout, pipeline
from cmgan_jax.data.corpus import Corpus, CorpusSource, fingerprint
from cmgan_jax.data.folders import walk
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config, override

RATE = 16_000


def tiny(**numbers: Any) -> Config:
    return override(make_config(preset="tiny"), {f"data.{name}": value for name, value in numbers.items()})


def tone(path: Path, frames: int = 4000) -> None:
    audio.write(path, 0.1 * np.sin(np.arange(frames) * 0.1 + len(path.name)), RATE)


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


def test_every_part_of_a_file_counts_in_the_fingerprint_and_their_order_does_not(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"12")
    a, b = ("x/a.wav", tmp_path / "a", 1), ("x/b.wav", tmp_path / "b", 1)
    digest = fingerprint([a, b], None)
    assert fingerprint([b, a], None) == digest
    assert fingerprint([a, ("x/b.wav", tmp_path / "b", 2)], None) != digest
    assert fingerprint([a, ("y/b.wav", tmp_path / "b", 1)], None) != digest
    (tmp_path / "b").write_bytes(b"123")
    assert fingerprint([a, b], None) != digest
    (tmp_path / "b").unlink()
    with pytest.raises(UserError, match=f"{tmp_path}/b: No such file"):
        fingerprint([a, b], None)


def test_a_corpus_describes_itself(tmp_path: Path) -> None:
    """Four pairs of 8 s and one held out: 32 s are 0.0089 h."""
    for name in ("p1_1", "p1_2", "p1_3", "p1_4", "p2_1"):
        for side in ("clean", "noisy"):
            tone(tmp_path / "train" / side / f"{name}.wav", 8 * RATE)
    corpus = open_corpus(CorpusSource(tmp_path), tiny())
    assert corpus.describe().splitlines() == [
        "training:   4 pairs, 32.0 s, p1",
        "validation: 1 pair, 8.0 s, p2",
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
