import errno
import json
import shutil
import struct
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from cmgan_jax.cli._cli import run
from cmgan_jax.data import audio, manifest
from cmgan_jax.data.prepare import prompts, voicebank
from cmgan_jax.data.prepare.demo import DemoPlan, prepare_demo
from cmgan_jax.data.prepare.synthetic_noise import make_noise
from cmgan_jax.data.prepare.synthetic_speech import make_speakers, synthesise
from cmgan_jax.errors import UserError

SMALL = DemoPlan(
    noise={"pink": 1, "babble": 1},
    noise_seconds=1.0,
    validation={"pink": 1, "babble": 1, "hum": 2},
    validation_seconds=(0.8, 1.2),
    speakers=2,
    utterances=4,
)
convert = voicebank.prepare_voicebank
SETS = {
    "train": ("clean_trainset_28spk_wav", "noisy_trainset_28spk_wav"),
    "test": ("clean_testset_wav", "noisy_testset_wav"),
}


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


# The demo corpus.


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory) -> Path:
    return prepare_demo(tmp_path_factory.mktemp("demo") / "demo", synthetic=True, plan=SMALL, progress=lambda _: None)


def test_demo_has_the_layout_that_the_trainer_reads(small_demo):
    # Expected: two speakers of four utterances, half of them held out for the four mixtures of SMALL.
    totals = {folder: total["files"] for folder, total in manifest_of(small_demo).totals().items()}
    assert totals == {
        "noise": 2,
        "speech/s01": 2,
        "speech/s02": 2,
        "validation/clean": 4,
        "validation/noisy": 4,
    }
    assert "CC0" in (small_demo / "COPYRIGHT").read_text()
    assert [path.name for path in small_demo.parent.iterdir()] == ["demo"]


def manifest_of(root: Path) -> manifest.Manifest:
    found = manifest.read(root)
    assert found is not None
    return found


def test_demo_holds_out_speech_and_mixes_at_the_ratio_it_states(small_demo):
    found = manifest_of(small_demo)
    speech = {entry.sha256 for entry in found.files if entry.path.startswith("speech")}
    clean = {entry.sha256 for entry in found.files if entry.path.startswith("validation/clean")}
    assert not speech & clean
    # Expected: SMALL spreads four ratios evenly over -2.5 … 17.5 dB; power ratios measured from the files.
    assert sorted(extra["snr_db"] for extra in found.details.values()) == [-2.5, 4.17, 10.83, 17.5]
    for path, extra in found.details.items():
        noisy = audio.read(small_demo / path)
        reference = audio.read(small_demo / path.replace("noisy", "clean"))
        ratio = 10 * np.log10(np.mean(reference**2) / np.mean((noisy - reference) ** 2))
        assert ratio == pytest.approx(extra["snr_db"], abs=0.05)


def test_demo_is_kept_when_whole_and_made_anew_when_not(small_demo, tmp_path):
    out = tmp_path / "demo"
    shutil.copytree(small_demo, out)
    before = contents(out)
    prepare_demo(out, plan=SMALL, progress=lambda line: pytest.fail(line))
    assert contents(out) == before
    (out / "noise/pink_01.flac").unlink()
    prepare_demo(out, synthetic=True, plan=SMALL, progress=lambda _: None)
    # The same seeds: the same samples, hence the same fingerprint.
    assert manifest_of(out).fingerprint == manifest_of(small_demo).fingerprint
    assert set(contents(out)) == set(before)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_without_apt_the_demo_says_so_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    lines: list[str] = []
    prepare_demo(tmp_path / "demo", plan=SMALL, progress=lines.append)
    told = [line for line in lines if "synthesised speech" in line]
    assert told == ["demo corpus: synthesised speech (no recorded prompts: apt-get is not on this system)"]


def test_demo_replaces_nothing_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not made by"):
        prepare_demo(tmp_path, synthetic=True, plan=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_demo_that_is_made_anew_takes_nothing_of_others_with_it(small_demo, tmp_path):
    out = tmp_path / "demo"
    shutil.copytree(small_demo, out)
    (out / "noise/pink_01.flac").unlink()
    (out / "noise/mine.flac").write_bytes(b"a day of recording")
    with pytest.raises(UserError, match=r"noise/mine\.flac"):
        prepare_demo(out, synthetic=True, plan=SMALL, progress=lambda _: None)
    assert (out / "noise/mine.flac").read_bytes() == b"a day of recording"


def test_a_relative_folder_is_where_the_tools_look(tmp_path, monkeypatch):
    """apt-get and dpkg run inside the folder; a path relative to ours would point elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()

    def call(command, folder, seconds):
        if command[0] == "apt-get":
            for source in prompts.SOURCES:
                (folder / f"{source.package}_1_all.deb").touch()
        else:
            assert (folder / command[2]).exists(), f"{command} in {folder}"
            raise prompts.PromptsUnavailableError("far enough")

    monkeypatch.setattr(prompts, "_call", call)
    with pytest.raises(prompts.PromptsUnavailableError, match="far enough"):
        prompts.fetch_prompts(Path("work"))


def test_demo_leaves_nothing_behind_when_the_disk_is_full(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audio, "write", full)
    with pytest.raises(OSError, match="No space"):
        prepare_demo(tmp_path / "demo", synthetic=True, plan=SMALL, progress=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_trimming_leaves_a_tenth_of_a_second():
    # Expected by construction: 1 s of tone between 0.5 s of silence leaves 0.1 + 1 + 0.1 s.
    tone = 0.3 * np.sin(np.arange(16_000)).astype(np.float32)
    silence = np.zeros(8_000, np.float32)
    assert len(prompts.trim(np.concatenate([silence, tone, silence]))) == 19_200
    assert len(prompts.trim(np.zeros(16_000, np.float32))) == 0
    assert len(prompts.trim(np.zeros(10, np.float32))) == 0


# The manifest.


def test_manifest_survives_the_trip_and_tells_what_differs(small_demo, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(small_demo, out)
    found = manifest_of(out)
    assert manifest.differences(out, found.files) == []
    (out / "noise/pink_01.flac").write_bytes(b"short")
    (out / "noise/babble_01.flac").unlink()
    size = next(entry.bytes for entry in found.files if entry.path == "noise/pink_01.flac")
    assert manifest.differences(out, found.files) == [
        "noise/babble_01.flac: missing",
        f"noise/pink_01.flac: 5 bytes, not {size}",
    ]


def test_a_damaged_manifest_is_refused(small_demo, tmp_path):
    text = (small_demo / manifest.NAME).read_text()
    content = json.loads(text)
    content["files"][0]["sha256"] = "0" * 64
    for damaged in (text[:100], "[]", json.dumps(content), json.dumps({**content, "format": 99})):
        (tmp_path / manifest.NAME).write_text(damaged)
        with pytest.raises(UserError, match="prepare it anew"):
            manifest.read(tmp_path)


def test_a_manifest_finds_its_files_however_accents_are_spelt(tmp_path):
    """What a Mac writes of é, and what the manifest has: Unicode's NFD and NFC."""
    (tmp_path / "speech").mkdir()
    path = tmp_path / "speech" / f"caf{unicodedata.normalize('NFD', 'é')}.wav"
    audio.write(path, np.full(800, 0.1), 16_000)
    entry = manifest.describe(path, tmp_path)
    assert entry.path == f"speech/caf{unicodedata.normalize('NFC', 'é')}.wav"
    assert manifest.differences(tmp_path, [entry]) == []
    path.rename(tmp_path / entry.path)
    assert manifest.describe(tmp_path / entry.path, tmp_path) == entry
    assert manifest.differences(tmp_path, [entry]) == []


# VoiceBank+DEMAND.


@pytest.fixture(scope="module")
def utterances() -> dict[str, np.ndarray]:
    """Clean and noisy at 16 kHz, low-passed by the trip through 48 kHz and back, by set/name."""
    waves = {}
    for index, (speaker, part) in enumerate(zip(make_speakers(4), ("train", "train", "test", "test"), strict=True)):
        clean = synthesise(0.5 + 0.001 * index, speaker, index)
        noise = 0.02 * make_noise("brown", len(clean) / 16_000, index)
        for side, wave in zip(SETS[part], (clean, clean + noise), strict=True):
            waves[f"{side}/p{226 + index}_001.wav"] = wave
    return waves


@pytest.fixture
def folders(utterances, tmp_path) -> Path:
    """The published sets as unpacked folders at 48 kHz."""
    for name, wave in utterances.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, soxr.resample(wave, 16_000, 48_000, "VHQ"), 48_000, subtype="PCM_16")
    return tmp_path / "source"


@pytest.fixture
def zips(folders) -> Path:
    """The same as zips, one of them named in capitals, with what a Mac adds."""
    for folder in list(folders.iterdir()):
        name = folder.name.upper() if "noisy_test" in folder.name else folder.name
        with zipfile.ZipFile(folders / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"__MACOSX/{folder.name}/._p226_001.wav", b"junk")
            for path in folder.iterdir():
                archive.write(path, f"{folder.name}/{path.name}")
        shutil.rmtree(folder)
    return folders


def test_zips_become_16_khz_pairs(zips, utterances, tmp_path):
    out = convert(zips, tmp_path / "out")
    found = manifest_of(out)
    assert {folder: total["files"] for folder, total in found.totals().items()} == {
        "test/clean": 2,
        "test/noisy": 2,
        "train/clean": 2,
        "train/noisy": 2,
    }
    for name, wave in utterances.items():
        side, file = name.split("/")
        part = "train" if "train" in side else "test"
        path = out / part / side[:5] / file
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "PCM_16", len(wave))
        # Expected: what was there before the detour over 48 kHz, but for the last octave's edge and 16 bits.
        error = audio.read(path) - wave
        assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(wave**2))
    assert not (tmp_path / "out.partial").exists()


def test_folders_and_zips_give_the_same_samples(folders, tmp_path, request):
    first = manifest_of(convert(folders, tmp_path / "one"))
    second = manifest_of(convert(request.getfixturevalue("zips"), tmp_path / "two"))
    assert first.fingerprint == second.fingerprint


def test_what_16_khz_cannot_hold_is_gone(folders, tmp_path):
    # Expected: a 10 kHz tone is above the new band's 8 kHz; what is left of it is under a 16-bit step.
    time = np.arange(24_000) / 48_000
    for name in SETS["test"]:
        wave = 0.5 * np.sin(2 * np.pi * 10_000 * time) * np.hanning(24_000) + 0.1 * np.sin(2 * np.pi * 500 * time)
        soundfile.write(folders / name / "p230_001.wav", wave, 48_000)
    heard = audio.read(convert(folders, tmp_path / "out") / "test/clean/p230_001.wav")[1000:-1000]
    expected = 0.1 * np.sin(2 * np.pi * 500 * np.arange(8_000) / 16_000)[1000:-1000]
    assert np.abs(heard - expected).max() < 2**-14


def test_16_khz_files_pass_bit_for_bit(utterances, tmp_path):
    for name, wave in utterances.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, manifest.to_pcm16(wave), 16_000, subtype="PCM_16")
    out = convert(tmp_path / "source", tmp_path / "out")
    for name, wave in utterances.items():
        side, file = name.split("/")
        samples, _ = soundfile.read(out / ("train" if "train" in side else "test") / side[:5] / file, dtype="int16")
        np.testing.assert_array_equal(samples, manifest.to_pcm16(wave))


def test_a_second_run_does_nothing_and_a_third_repairs(zips, tmp_path):
    out = convert(zips, tmp_path / "out")
    before = contents(out)
    convert(zips, out)
    assert contents(out) == before
    (out / "train/noisy/p227_001.wav").unlink()
    soundfile.write(out / "test/clean/p228_001.wav", np.zeros(8032, np.int16), 16_000)  # right length, wrong sound
    (out / "test/clean/p229_001.wav").write_bytes(b"RIFF")
    convert(zips, out)
    after = contents(out)
    assert {name: data for name, (_, data) in after.items()} == {n: data for n, (_, data) in before.items()}
    untouched = [name for name in before if after[name][0] == before[name][0]]
    assert len(untouched) == 5  # of eight; the manifest is written anew


def test_an_interrupted_run_goes_on(zips, tmp_path):
    def interrupt(label: str, done: int, total: int) -> None:
        if label == "converting" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(zips, tmp_path / "out", progress=interrupt)
    assert not (tmp_path / "out").exists()
    done = len(list((tmp_path / "out.partial").rglob("*.wav")))
    assert done >= 3
    converted = []
    convert(zips, tmp_path / "out", progress=lambda *state: converted.append(state))
    assert len([state for state in converted if state[0] == "converting"]) == 8 - done
    assert not (tmp_path / "out.partial").exists()


def test_everything_bad_is_listed_and_nothing_is_left(folders, tmp_path, capsys):
    train = folders / "noisy_trainset_28spk_wav"
    (train / "p226_001.wav").write_bytes(b"not audio")
    shutil.copy(train / "p227_001.wav", folders / "clean_testset_wav" / "p300_001.wav")
    with pytest.raises(SystemExit) as left:
        run(lambda: print(convert(folders, tmp_path / "out")))
    assert left.value.code == 2
    assert "p300_001.wav: no noisy file of this name" in capsys.readouterr().err

    (folders / "clean_testset_wav" / "p300_001.wav").unlink()
    soundfile.write(folders / "clean_testset_wav/p228_001.wav", np.full(30_000, 0.1), 48_000)
    soundfile.write(folders / "clean_testset_wav/p229_001.wav", np.full((9_000, 2), 0.1), 44_100)
    soundfile.write(train / "p227_001.wav", np.zeros(24_048), 48_000)
    for side in SETS["train"]:
        (folders / side / "phone.M4A").write_bytes(b"ftypM4A")
    with pytest.raises(UserError) as told:
        convert(folders, tmp_path / "out")
    message = str(told.value)
    for reason in (
        "p226_001.wav: unreadable",
        "p228_001.wav: 10000 samples at 16 kHz, its noisy partner 8032",
        "p229_001.wav: 44100 Hz, neither 48000 nor 16000; 2 channels, not one",
        "p227_001.wav: silent",
        "phone.M4A: not WAV or FLAC",
        "6 problems",
    ):
        assert reason in message
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_damaged_member_is_named(zips, tmp_path):
    path = zips / "clean_testset_wav.zip"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.infolist()[-1]
    data[info.header_offset + 2000] ^= 0xFF  # well inside of the compressed samples
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"{Path(info.filename).name}: unreadable"):
        convert(zips, tmp_path / "out")
    path.write_bytes(data[:-100])
    with pytest.raises(UserError, match="not a whole zip"):
        convert(zips, tmp_path / "out")


def add_pair(zips: Path, content: bytes, method: int) -> list[Path]:
    """Add a pair to the test set; its zips."""
    paths = [zips / "clean_testset_wav.zip", zips / "NOISY_TESTSET_WAV.zip"]
    for path in paths:
        with zipfile.ZipFile(path, "a", method) as archive:
            archive.writestr("set/p999_001.wav", content)
    return paths


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(zips, tmp_path):
    """300 kB that say they are a second of audio and are 256 MiB. Expected: what was said, and then a wrong sum."""
    described = struct.pack("<IH", 2**28, len("set/p999_001.wav"))
    for path in add_pair(zips, bytes(2**28), zipfile.ZIP_DEFLATED):
        content = path.read_bytes()
        assert content.count(described) == 2  # before the member, and in the directory at the end
        path.write_bytes(content.replace(described, struct.pack("<I", 96_000) + described[4:]))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"p999_001.wav: unreadable"):
            convert(zips, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_a_limit_are_refused(zips, tmp_path, method):
    add_pair(zips, bytes(1000), method)
    with pytest.raises(UserError, match=r"p999_001.wav: compressed as the published zips are not"):
        convert(zips, tmp_path / "out")


@pytest.mark.parametrize("name", ["../../evil.wav", "/etc/evil.wav", "a\\..\\..\\evil.wav", "C:\\evil.wav"])
def test_a_zip_that_leads_outside_is_refused(zips, tmp_path, name):
    with zipfile.ZipFile(zips / "clean_testset_wav.zip", "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UserError, match="leads outside"):
        convert(zips, tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()


def test_missing_sets_and_editions(zips, tmp_path):
    (zips / "noisy_trainset_28spk_wav.zip").rename(zips / "noisy_trainset_56spk_wav.zip")
    with pytest.raises(UserError, match=r"lacks noisy_trainset_28spk_wav \(\.zip"):
        convert(zips, tmp_path / "out")
    shutil.copy(zips / "clean_trainset_28spk_wav.zip", zips / "clean_trainset_56spk_wav.zip")
    assert convert(zips, tmp_path / "out", speakers=56).is_dir()
    with pytest.raises(UserError, match="no such folder"):
        convert(zips / "absent", tmp_path / "out")


def test_too_small_a_disk_is_told_before_anything_is_written(zips, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"\d MB needed, 0\.0 MB free"):
        convert(zips, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_folder_with_other_things_is_refused(zips, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"not of this source: thesis\.txt"):
        convert(zips, tmp_path / "out")


@pytest.mark.parametrize("place", ["out", "out.partial"])
@pytest.mark.parametrize(
    "theirs", [".notes.tmp", ".12-34.tmp", "deep/.x.tmp", "train/clean/p226_001.wav", "a/thesis.txt"]
)
def test_what_somebody_else_made_is_not_touched(zips, tmp_path, place, theirs):
    """Names of temporary files, and names that the result will have: nothing says that they are a preparation's own."""
    file = tmp_path / place / theirs
    file.parent.mkdir(parents=True)
    file.write_text("years of work")
    with pytest.raises(UserError, match=rf"not of this source: {theirs}"):
        convert(zips, tmp_path / "out")
    assert file.read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([place, "source"])


def test_what_a_killed_run_left_is_cleared_away(zips, tmp_path):
    def interrupt(label: str, done: int, total: int) -> None:
        if label == "converting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(zips, tmp_path / "out", progress=interrupt)
    (tmp_path / "out.partial/train/clean/.12-34-0123abcd.tmp").write_bytes(b"half a file")
    convert(zips, tmp_path / "out")
    assert not [name for name in contents(tmp_path / "out") if Path(name).name.startswith(".")]


# The wrapper of entry points.


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("x is y: do z"), 2, "x is y: do z"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "/some/file"), 2, "/some/file: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/some/file"), 2, "/some/file: permission denied"),
    ],
)
def test_what_a_user_causes_ends_in_a_line_and_a_status(capsys, error, status, words):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        run(main)
    assert left.value.code == status
    told = capsys.readouterr().err
    assert told.startswith(words)
    assert told.count("\n") == 1


def test_the_projects_own_errors_keep_their_traceback():
    with pytest.raises(OSError, match="unknown"):
        run(lambda: (_ for _ in ()).throw(OSError(errno.EBADF, "unknown")))
    with pytest.raises(SystemExit) as left:
        run(lambda: 7)
    assert left.value.code == 7
