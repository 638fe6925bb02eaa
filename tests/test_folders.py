"""Folders that somebody else filled: every file in them is taken up or named, through links, kinds and spellings."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cmgan_jax.data import layout
from cmgan_jax.data.corpus import CorpusSource
from cmgan_jax.data.folders import walk
from cmgan_jax.errors import UserError
from cmgan_jax.evaluation.evaluation import match_files
from cmgan_jax.inference.files import plan

NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
READ = {
    ".wav": "WAV",
    ".bwf": "WAV",
    ".wave": "WAV",
    ".sph": "NIST",
    ".nist": "NIST",
    ".wv1": "NIST",
    ".snd": "AU",
    ".au": "AU",
    ".voc": "VOC",
    ".mp3": "MP3",
    ".MP3": "MP3",
    ".mpga": "MP3",
    ".oga": "OGG",
    ".ogx": "OGG",
    ".opus": "OGG",
    ".aiff": "AIFF",
    ".caf": "CAF",
    ".w64": "W64",
    ".rf64": "RF64",
    ".sf": "IRCAM",
    ".avr": "AVR",
    ".paf": "PAF",
}
FOREIGN = (".mp4", ".webm", ".mkv", ".mov", ".m4a", ".aac", ".wma", ".amr", ".avi", ".shn", ".ape", ".3gp", ".raw")


def sound(path: Path, form: str | None = None, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal(1600).clip(-4, 4)
    soundfile.write(path, samples, 16_000, format=form or "WAV", subtype="OPUS" if path.suffix == ".opus" else None)
    return path


def link(path: Path, to: str | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """One folder of clean files that stands under three names, as for three ratios, and links that lead in a circle."""
    for name in ("a", "b"):
        sound(tmp_path / "store" / f"{name}.wav")
        for ratio in ("snr0", "snr5", "snr10"):
            sound(tmp_path / "train" / "noisy" / ratio / f"{name}.wav")
    for ratio in ("snr0", "snr5", "snr10"):
        link(tmp_path / "train" / "clean" / ratio, "../../store")
    link(tmp_path / "store" / "here", ".")
    link(tmp_path / "store" / "above", tmp_path / "train" / "clean")
    return tmp_path


def test_a_folder_that_is_linked_three_times_is_there_three_times(linked: Path) -> None:
    """By hand: three names of a folder of two files; what leads back into itself adds nothing to them."""
    expected = {f"{ratio}/{name}" for ratio in ("snr0", "snr5", "snr10") for name in "ab"}
    clean, noisy = linked / "train" / "clean", linked / "train" / "noisy"
    # Under each name the others are reached once more, through `above`: they are other paths, and no loop.
    jobs = plan([noisy], linked / "out")
    assert {job.name.removesuffix(".wav") for job in jobs} == expected
    assert expected <= {job.name.removesuffix(".wav") for job in plan([clean], linked / "out")}
    os.unlink(linked / "store" / "above")
    assert {job.name.removesuffix(".wav") for job in plan([clean], linked / "out")} == expected
    cases = match_files({"clean": clean, "enhanced": noisy})
    assert {case.name: dict(case.problems) for case in cases} == {name: {} for name in expected}
    listing = layout.find(CorpusSource(linked))
    assert ({pair.name for pair in listing.train}, listing.problems) == (expected, ())


def test_links_without_end_are_refused_and_not_gone_through(tmp_path: Path) -> None:
    """Twelve folders with two links each to the next are 4,096 names of the last one."""
    for depth in range(12):
        (tmp_path / f"d{depth}").mkdir()
        link(tmp_path / f"d{depth}" / "x", f"../d{depth + 1}")
        link(tmp_path / f"d{depth}" / "y", f"../d{depth + 1}")
    sound(tmp_path / "d12" / "a.wav")
    with pytest.raises(UserError, match="more than 1000 names"):
        plan([tmp_path / "d0"], tmp_path / "out")


@pytest.mark.parametrize("suffix", READ)
def test_every_kind_that_the_library_reads_is_taken_up(tmp_path: Path, suffix: str) -> None:
    for side in ("clean", "noisy"):
        sound(tmp_path / "train" / side / f"a{suffix}", READ[suffix])
    (job,) = plan([tmp_path / "train" / "clean"], tmp_path / "out")
    (case,) = match_files({"clean": tmp_path / "train" / "clean", "enhanced": tmp_path / "train" / "noisy"})
    (pair,) = layout.find(CorpusSource(tmp_path)).train
    assert job.source == case.paths["clean"] == pair.clean


@pytest.mark.parametrize("suffix", FOREIGN)
def test_a_kind_that_is_not_read_is_named_wherever_it_lies(tmp_path: Path, suffix: str) -> None:
    sound(tmp_path / "speech" / "a.wav")
    (tmp_path / "speech" / f"b{suffix}").write_bytes(b"\0" * 100)
    sound(tmp_path / "noise" / "n.wav")
    assert [job.name for job in plan([tmp_path / "speech"], tmp_path / "out")] == ["a.wav", f"b{suffix}"]
    cases = match_files({"clean": tmp_path / "speech", "enhanced": tmp_path / "speech"})
    assert [case.name for case in cases] == ["a", "b"]
    assert [clip.path.suffix for clip in layout.find(CorpusSource(tmp_path)).speech] == [".wav", suffix]


def test_what_is_passed_over_is_counted_by_its_suffix(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    sound(tmp_path / ".hidden.wav")
    (tmp_path / ".DS_Store").touch()
    for name in ("x.txt", "sub/y.TXT", "z.json", "README"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = walk(tmp_path)
    assert found.files == (tmp_path / "a.wav",)
    assert found.passed_over_text() == "2 .txt, 1 .json, 1 hidden, 1 without a suffix"


def test_a_link_that_leads_nowhere_is_named_since_it_may_have_been_a_folder(tmp_path: Path) -> None:
    sound(tmp_path / "train" / "noisy" / "snr0" / "a.wav")
    sound(tmp_path / "train" / "clean" / "snr0" / "a.wav")
    link(tmp_path / "train" / "clean" / "snr5", "/nowhere/that/is/mounted")
    clean = tmp_path / "train" / "clean"
    assert [job.name for job in plan([clean], tmp_path / "out")] == ["snr0/a.wav", "snr5"]
    with pytest.raises(UserError, match="snr5: the link leads nowhere"):
        match_files({"clean": clean, "enhanced": tmp_path / "train" / "noisy"})
    (problem,) = layout.find(CorpusSource(tmp_path)).problems
    assert problem.path == clean / "snr5"


def test_all_folders_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "closed1/b", "closed2/c"):
        for side in ("clean", "noisy"):
            sound(tmp_path / "train" / side / f"{name}.wav")
    scan = os.scandir

    def refusing(path: Any) -> Any:  # Who runs the tests may be allowed everything.
        if Path(path).name.startswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    clean, noisy = tmp_path / "train" / "clean", tmp_path / "train" / "noisy"
    with pytest.raises(UserError, match=r"(?s)closed1: Permission denied.*closed2: Permission denied"):
        match_files({"clean": clean, "enhanced": noisy})
    listing = layout.find(CorpusSource(tmp_path))
    assert {(p.path.parent.name, p.path.name, p.reason) for p in listing.problems} == {
        (side, name, "Permission denied") for side in ("clean", "noisy") for name in ("closed1", "closed2")
    }
    assert [pair.name for pair in listing.train] == ["a"]


def test_names_match_however_their_accents_are_spelt(tmp_path: Path) -> None:
    """One letter é, or e and a combining accent (Unicode's NFC and NFD, as Linux and older Macs write them)."""
    sound(tmp_path / "train" / "clean" / f"J{NFC}r" / f"caf{NFC}.wav")
    sound(tmp_path / "train" / "noisy" / f"J{NFD}r" / f"caf{NFD}.WAV")
    clean, noisy = tmp_path / "train" / "clean", tmp_path / "train" / "noisy"
    (case,) = match_files({"clean": clean, "enhanced": noisy})
    assert (case.name, dict(case.problems)) == (f"J{NFC}r/caf{NFC}", {})
    listing = layout.find(CorpusSource(tmp_path))
    assert ([pair.name for pair in listing.train], listing.problems) == ([f"J{NFC}r/caf{NFC}"], ())


def test_two_spellings_of_a_name_in_one_folder_are_ambiguous(tmp_path: Path) -> None:
    for name in (NFC, NFD):
        sound(tmp_path / "train" / "clean" / f"{name}.wav")
    sound(tmp_path / "train" / "noisy" / f"{NFC}.wav")
    (case,) = match_files({"clean": tmp_path / "train" / "clean", "enhanced": tmp_path / "train" / "noisy"})
    assert "2 clean files of that name" in case.problems["clean"]
    (problem,) = layout.find(CorpusSource(tmp_path)).problems
    assert "has the name of" in problem.reason


def test_a_pair_may_be_of_two_kinds_and_a_copy_that_is_left_out_is_named(tmp_path: Path) -> None:
    clean, noisy = tmp_path / "train" / "clean", tmp_path / "train" / "noisy"
    for name in ("a", "b"):
        sound(clean / f"{name}.wav")
        sound(noisy / f"{name}.mp3", "MP3")
    sound(noisy / "b.wav")
    listing = layout.find(CorpusSource(tmp_path))
    assert [(pair.name, pair.noisy.name) for pair in listing.train] == [("a", "a.mp3"), ("b", "b.wav")]
    assert [(p.path.name, p.reason) for p in listing.problems] == [
        ("b.mp3", "has the name of b.wav beside it: remove one")
    ]
    cases = match_files({"clean": clean, "enhanced": noisy})
    assert [case.paths["enhanced"].name for case in cases] == ["a.mp3", "b.wav"]
    assert [dict(case.notes) for case in cases] == [{}, {"enhanced": "b.mp3 beside it is left out"}]


def test_a_file_that_is_reached_twice_is_two_pairs_but_one_clip(tmp_path: Path) -> None:
    """A clean file belongs to each of its noisy versions; twice in a list of speech it would only weigh double."""
    for ratio in ("0", "5"):
        sound(tmp_path / "pairs" / "train" / "noisy" / f"a_{ratio}.wav")
        link(tmp_path / "pairs" / "train" / "clean" / f"a_{ratio}.wav", tmp_path / "mixed" / "speech" / "a.wav")
        link(tmp_path / "mixed" / "speech" / f"again_{ratio}.wav", "a.wav")
    sound(tmp_path / "mixed" / "speech" / "a.wav")
    sound(tmp_path / "mixed" / "noise" / "n.wav")
    assert len(layout.find(CorpusSource(tmp_path / "pairs")).train) == 2
    assert [clip.name for clip in layout.find(CorpusSource(tmp_path / "mixed")).speech] == ["a"]
