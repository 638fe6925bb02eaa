"""People's own recordings to 16 kHz: nothing is lost, clipped or left half done, and what cannot be used is named."""

import os
import subprocess
import sys
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from cmgan_jax.cli import prepare_data
from cmgan_jax.config import Config
from cmgan_jax.data import audio, layout, manifest
from cmgan_jax.data.conversion import decode
from cmgan_jax.data.corpus import CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.prepare.own import Prepared, prepare
from cmgan_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
RATE = 16_000


def voice(seconds: float = 1.0, rate: int = 48_000, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Modulated noise without a period, float64 [S, channels], below 8 kHz but for little."""
    count = round(seconds * rate)
    noise = np.random.default_rng(seed).standard_normal((count, channels))
    low = np.hanning(max(4, rate // 4000))
    smooth = np.stack([np.convolve(noise[:, i], low, "same") for i in range(channels)], axis=1)
    return 0.02 * smooth * (1.1 + np.sin(19 * np.arange(count) / rate))[:, None]


def store(path: Path, samples: np.ndarray, rate: int = 48_000, form: str | None = None, subtype: str | None = None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, format=form, subtype=subtype)
    return path


def store_pair(source: Path, name: str, part: str = "train", seed: int = 0) -> None:
    clean = voice(seed=seed)
    noise = 0.2 * clean.std() * np.random.default_rng(99 + seed).standard_normal(clean.shape)
    store(source / part / "clean" / f"{name}.wav", clean)
    store(source / part / "noisy" / f"{name}.wav", clean + noise)


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def fingerprint(out: Path) -> str:
    whole = manifest.read(out)
    assert whole is not None
    assert manifest.differences(out, whole.files) == []
    return whole.fingerprint


# Samples.


@pytest.mark.parametrize(
    ("name", "rate", "channels", "form", "subtype"),
    [
        ("a.wav", 48_000, 1, None, "PCM_24"),
        ("a.WAV", 44_100, 2, "WAV", "FLOAT"),
        ("a.flac", 22_050, 3, None, "PCM_16"),
        ("a.mp3", 44_100, 2, None, None),
        ("a.opus", 48_000, 1, "OGG", "OPUS"),
        ("a.sph", 8_000, 1, "NIST", "ULAW"),
        ("a.aiff", 96_000, 1, None, None),
    ],
)
def test_any_rate_kind_and_number_of_channels_becomes_mono_at_16_khz(tmp_path, name, rate, channels, form, subtype):
    """Expected: what soxr makes at once of the mean of all that the file holds; blocks of 10 s must not be seen."""
    path = store(tmp_path / "in" / "anna" / name, voice(21.0, rate, channels=channels), rate, form, subtype)
    result = prepare("speech", tmp_path / "in", tmp_path / "out")
    assert (result.made, result.problems) == (1, ())
    made = tmp_path / "out" / "anna" / "a.wav"
    info = soundfile.info(made)
    expected = soxr.resample(soundfile.read(path, always_2d=True)[0].mean(axis=1), rate, RATE, "VHQ")
    assert (info.samplerate, info.channels, info.frames) == (RATE, 1, len(expected))
    np.testing.assert_allclose(audio.read(made), expected, atol=2**-15)


def test_nothing_is_clipped_and_nothing_quiet_is_rounded_away(tmp_path):
    """16 bits hold neither twice full scale nor, to 50 dB, a signal at -74 dB; the others take half the room."""
    gains = {"loud": 2.0 / 0.2, "usual": 1.0, "quiet": 2e-4 / 0.02}
    for name, gain in gains.items():
        store(tmp_path / "in" / f"{name}.wav", gain * voice(1.0, RATE), RATE, subtype="FLOAT")
    result = prepare("speech", tmp_path / "in", tmp_path / "out")
    for name, gain in gains.items():
        made = audio.read(tmp_path / "out" / f"{name}.wav")
        error = np.sqrt(np.mean((made - gain * voice(1.0, RATE)[:, 0]) ** 2) / np.mean(made**2))
        assert error < 10 ** (-50 / 20), name
    assert soundfile.info(tmp_path / "out" / "usual.wav").subtype == "PCM_16"
    assert np.abs(audio.read(tmp_path / "out" / "loud.wav")).max() > 1.0
    assert result.notes == (
        "2 files are stored as 32-bit floats: they go beyond full scale, or are too quiet for 16 bits",
    )


def test_16_bit_files_at_16_khz_keep_their_samples(tmp_path):
    samples = (voice(1.0, RATE)[:, 0] * 300).astype(np.int16)  # at -74 dB, and whole numbers already
    store(tmp_path / "in" / "a.flac", samples, RATE)
    prepare("speech", tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out" / "a.wav", dtype="int16")[0], samples)


def test_memory_follows_blocks_and_not_the_length(tmp_path):
    """Two minutes of stereo at 48 kHz are 46 MB as floats, and a block of ten seconds 4 MB."""
    path = store(tmp_path / "a.wav", np.tile(voice(10, channels=2), (12, 1)))
    tracemalloc.start()
    decode(path, tmp_path / "raw")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


# Folders.


def test_pairs_become_a_corpus_whose_first_folder_speaks(tmp_path):
    for seed, name in enumerate(("anna/1", "anna/2", "ben/1"), 1):  # 0 is carl's: equal samples are refused
        store_pair(tmp_path / "in", name, seed=seed)
    store_pair(tmp_path / "in", "carl/1", "validation")
    result = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert (result.made, result.kept, result.problems) == (8, 0, ())
    corpus = open_corpus(CorpusSource(tmp_path / "out"), Config())
    assert [pair.name for pair in corpus.train] == ["anna/1", "anna/2", "ben/1"]
    assert [pair.name for pair in corpus.validation] == ["carl/1"]


def test_clean_and_noisy_alone_become_a_training_set_of_any_kinds_and_spellings(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    store(tmp_path / "in" / "clean" / f"{nfc}.wav", voice(1.0, 32_000), 32_000)
    store(tmp_path / "in" / "noisy" / f"{nfd}.MP3", voice(1.0, 32_000), 32_000, "MP3")
    (tmp_path / "in" / "clean" / "notes.txt").touch()
    (tmp_path / "in" / "more").mkdir()
    result = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert (result.made, result.problems) == (2, ())
    assert result.notes == ("no recordings, passed over: 1 .txt", "left out beside the pairs: more")
    assert [pair.name for pair in layout.find(CorpusSource(tmp_path / "out")).train] == [nfc]


def test_speech_and_noise_become_a_mixed_corpus_and_a_file_is_converted_once(tmp_path):
    for name in ("speech/a", "speech/b", "noise/n", "noise/m"):
        store(tmp_path / "in" / f"{name}.wav", voice())
    (tmp_path / "in" / "speech" / "again.wav").symlink_to("a.wav")
    result = prepare("speech", tmp_path / "in", tmp_path / "out")
    assert result.made == 4
    assert result.notes == ("1 names lead to files that have another name too: each file is converted once",)
    assert layout.find(CorpusSource(tmp_path / "out")).kind == "mixed"


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        ((), "neither clean/ and noisy/ nor train/clean"),
        (("clean",), "no folder noisy/"),
        (("train/noisy",), "no folder clean/"),
        (("clean", "noisy", "train/clean", "train/noisy"), "holds clean/ or noisy/, and train/"),
        (("clean", "noisy"), "no pairs of equal names"),
    ],
)
def test_what_is_no_folder_of_pairs_is_told_with_what_was_looked_for(tmp_path, folders, told):
    (tmp_path / "in").mkdir()
    for folder in folders:
        (tmp_path / "in" / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=told):
        prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


# What cannot be used.


def make_bad(source: Path) -> dict[str, str]:
    """Pairs of which none can be used, with the reasons by file."""
    good = voice(2.0)
    quiet_noise = 0.1 * good.std() * np.random.default_rng(5).standard_normal(good.shape)

    def pair(name: str, clean: np.ndarray, noisy: np.ndarray, rate: int = 48_000) -> None:
        store(source / "clean" / f"{name}.wav", clean, 48_000, subtype="FLOAT")
        store(source / "noisy" / f"{name}.wav", noisy, rate, subtype="FLOAT")

    pair("text", good, good)
    (source / "noisy" / "text.wav").write_text("this is no audio at all, but some text")
    pair("nan", good, np.where(np.arange(len(good))[:, None] == 500, np.nan, good))
    pair("silent", good, 0 * good)
    pair("antiphase", good, np.hstack([good, -good]))
    pair("shorter", good, good[:-300])
    pair("rate", good, good, 44_100)
    pair("scale", good, 32_768 * good)
    pair("shift", good, np.vstack([np.zeros((24_000, 1)), good[:-24_000]]) + quiet_noise)
    pair("phone", good, good)
    (source / "noisy" / "phone.wav").unlink()
    (source / "noisy" / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    store(source / "clean" / "alone.wav", good)
    return {
        "noisy/text.wav": "unreadable",
        "noisy/nan.wav": "sample 500 is nan",
        "noisy/silent.wav": "silent",
        "noisy/antiphase.wav": "silent: no sound from beginning to end in the mean of its 2 channels",
        "noisy/shorter.wav": "31900 samples at 16 kHz, but its clean partner has 32000",
        "noisy/rate.wav": "both hold 96000 samples, at 44100 and 48000 Hz; one of the rates is wrong",
        "noisy/scale.wav": "+90 dB against its clean partner",
        "noisy/shift.wav": "0.500 s behind its clean partner",
        "noisy/phone.m4a": ".m4a files are not read here",
        "clean/alone.wav": "no noisy file of that name",
    }


def test_what_cannot_be_used_is_named_and_the_rest_converted(tmp_path, monkeypatch, capsys):
    expected = make_bad(tmp_path / "in")
    store(tmp_path / "in" / "clean" / "ok.wav", voice())
    store(tmp_path / "in" / "noisy" / "ok.wav", voice())
    words = ["prepare_data", "pairs", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    assert prepare_data.main() == prepare_data.SOME_FAILED
    out = capsys.readouterr().out
    for name, reason in expected.items():
        (line,) = [line for line in out.splitlines() if f"{name}: " in line]
        assert reason in line
    assert f"{len(expected)} files cannot be used" in out
    assert "2 files converted, 0 kept" in out
    assert sorted(contents(tmp_path / "out")) == ["manifest.json", "train/clean/ok.wav", "train/noisy/ok.wav"]


def test_where_nothing_can_be_used_nothing_is_left(tmp_path):
    make_bad(tmp_path / "in")
    with pytest.raises(UserError, match=r"no file can be used:(?s:.*)noisy/scale\.wav"):
        prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("shift", [0, 1, 400])
def test_pairs_are_not_refused_for_noise_reverberation_or_the_way_of_the_sound(tmp_path, shift):
    """Noise as strong as the speech, an echo, a second microphone 2.8 m away (8.3 ms): a pair all the same."""
    clean = voice(2.0)[:, 0]
    noise = clean.std() * np.random.default_rng(3).standard_normal(clean.size)
    echo = 0.5 * np.roll(clean, 4000)
    store(tmp_path / "in" / "clean" / "a.wav", clean)
    store(tmp_path / "in" / "noisy" / "a.wav", np.roll(clean, shift)[: clean.size] + echo + noise)
    assert prepare("pairs", tmp_path / "in", tmp_path / "out").problems == ()


# Again, and after a kill.


def test_a_second_call_does_only_what_is_missing_or_has_changed(tmp_path):
    for i in range(4):
        store_pair(tmp_path / "in", f"s{i}", seed=i)
    prepare("pairs", tmp_path / "in", tmp_path / "out")
    before = contents(tmp_path / "out")
    assert prepare("pairs", tmp_path / "in", tmp_path / "out") == Prepared(0, 8, (), ())
    assert contents(tmp_path / "out") == before
    os.utime(tmp_path / "in" / "train" / "clean" / "s3.wav")  # The same content: no change.
    (tmp_path / "out" / "train" / "clean" / "s0.wav").unlink()
    (tmp_path / "out" / "train" / "noisy" / "s1.wav").write_bytes(before["train/noisy/s0.wav"][1])  # A sound file.
    clean = tmp_path / "in" / "train" / "clean" / "s2.wav"
    status = clean.stat()
    store_pair(tmp_path / "in", "s2", seed=9)
    os.utime(clean, ns=(status.st_atime_ns, status.st_mtime_ns))  # As long, as large and as old as before.
    store_pair(tmp_path / "in", "new", seed=8)
    result = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert (result.made, result.kept) == (8, 2)  # s0, s1, s2 and the new one; s3 is kept
    prepare("pairs", tmp_path / "in", tmp_path / "anew")
    assert fingerprint(tmp_path / "out") == fingerprint(tmp_path / "anew")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (tmp_path / "anew" / "manifest.json").read_bytes()
    (tmp_path / "in" / "train" / "noisy" / "s0.wav").write_bytes(b"")
    result = prepare("pairs", tmp_path / "in", tmp_path / "out")
    assert [problem.path.name for problem in result.problems] == ["s0.wav"]
    assert "train/clean/s0.wav" not in contents(tmp_path / "out")


@pytest.mark.parametrize("label", ["converting 1", "converting 3", "converting 5", "checking what is done 2", "rename"])
@pytest.mark.subprocess
def test_a_kill_leaves_nothing_half_done_and_the_next_call_goes_on(tmp_path, label):
    for i in range(5):
        store_pair(tmp_path / "in", f"s{i}", seed=i)
    out = tmp_path / "out"
    prepare("pairs", tmp_path / "in", tmp_path / "whole")
    if label.startswith("checking"):
        prepare("pairs", tmp_path / "in", out)
        (out / "train" / "clean" / "s0.wav").unlink()
    program = f"""
import os, sys
from pathlib import Path
from cmgan_jax.data.prepare.own import prepare
def progress(label, done, total):
    if f"{{label}} {{done}}" == {label!r}:
        os.kill(os.getpid(), 9)
if {label!r} == "rename":
    replace = os.replace
    os.replace = lambda old, new: os.kill(os.getpid(), 9) if os.path.isdir(old) else replace(old, new)
prepare("pairs", Path(sys.argv[1]), Path(sys.argv[2]), progress)
"""
    command = [sys.executable, "-c", program, tmp_path / "in", out]
    killed = subprocess.run(command, cwd=ROOT, timeout=100, check=False)
    assert killed.returncode == -9
    partial = tmp_path / "out.partial"
    if not label.startswith("checking"):
        assert not out.exists()
    for path in partial.rglob("*.wav"):
        assert path.read_bytes() == (tmp_path / "whole" / path.relative_to(partial)).read_bytes()
    done = len(list(partial.rglob("*.wav")))
    result = prepare("pairs", tmp_path / "in", out)
    # Two workers may have been at files that no line of the journal tells of.
    assert result.kept >= min(done, 8) - 4
    assert result.made + result.kept == 10
    assert contents(out).keys() == contents(tmp_path / "whole").keys()
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
    assert not partial.exists()


@pytest.mark.subprocess
def test_a_full_disk_is_an_error_of_the_disk_and_the_next_call_goes_on(tmp_path):
    for i in range(3):
        store_pair(tmp_path / "in", f"s{i}", seed=i)
    program = """
import resource, signal, sys
from pathlib import Path
from cmgan_jax.data.prepare.own import prepare
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
prepare("pairs", Path(sys.argv[1]), Path(sys.argv[2]))
"""
    command = [sys.executable, "-c", program, tmp_path / "in", tmp_path / "out"]
    full = subprocess.run(command, cwd=ROOT, timeout=100, check=False, capture_output=True, text=True)
    assert "File too large" in full.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert prepare("pairs", tmp_path / "in", tmp_path / "out").made == 6
    assert not list((tmp_path / "out").rglob(".*"))


# Whose folder it is.


@pytest.mark.parametrize("place", ["out", "out.partial"])
@pytest.mark.parametrize("theirs", ["s0.wav", ".12-34.tmp", "thesis.txt"])
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(tmp_path, place, theirs):
    store(tmp_path / "in" / "s0.wav", voice())
    (tmp_path / place).mkdir()
    (tmp_path / place / theirs).write_text("years of work")
    with pytest.raises(UserError, match="not of this source"):
        prepare("speech", tmp_path / "in", tmp_path / "out")
    assert contents(tmp_path / place)[theirs][1] == b"years of work"


def test_what_was_made_of_another_source_is_refused(tmp_path):
    for name in ("a", "b"):
        store(tmp_path / f"in-{name}" / f"{name}.wav", voice())
    prepare("speech", tmp_path / "in-a", tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=r"not of this source: a\.wav"):
        prepare("speech", tmp_path / "in-b", tmp_path / "out")
    with pytest.raises(UserError, match="holds neither clean"):
        prepare("pairs", tmp_path / "in-a", tmp_path / "out")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("out", ["in", "in/out", "."])
def test_results_among_the_recordings_are_refused(tmp_path, out):
    store(tmp_path / "in" / "a.wav", voice())
    with pytest.raises(UserError, match="beside the recordings"):
        prepare("speech", tmp_path / "in", tmp_path / out)
    assert list(contents(tmp_path)) == ["in/a.wav"]
