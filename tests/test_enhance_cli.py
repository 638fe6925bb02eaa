"""The command line on files as people have them: odd, damaged, in folders. Only the network is a stand-in."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from test_enhance import noise

from cmgan_jax.cli import _cli, enhance
from cmgan_jax.config import SpectralConfig
from cmgan_jax.data.audio import AudioError
from cmgan_jax.errors import UserError
from cmgan_jax.inference.files import Job, enhance_file, plan
from cmgan_jax.inference.pieces import Network
from cmgan_jax.inference.processor import Processor
from cmgan_jax.inference.windows import Layout

LAYOUT = Layout(length=8_000, edge=500, fade=500, hop=100, batch=1, whole=16_000)


def processor(factor: float = 1.0) -> Processor:
    """A network that multiplies."""
    return Processor(
        Network(SpectralConfig(), LAYOUT, ((1, 16_000),), lambda padded, frames, part: factor * padded[:, 200:-200])
    )


def write(path: Path, audio: np.ndarray, rate: int = 16_000, **kind: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, **kind)
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Run the entry point with a stand-in for the model; give its exit status."""

    def call(*words: object) -> int:
        monkeypatch.setattr(enhance.Enhancer, "from_checkpoint", lambda *_: processor())
        monkeypatch.setattr(enhance, "cache_programs", lambda: None)
        monkeypatch.setattr(sys, "argv", ["enhance", "--checkpoint", "x", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            _cli.run(enhance.main)
        assert isinstance(left.value.code, int)
        return left.value.code

    return call


KINDS = [
    ("a.wav", 8_000, 1, dict(subtype="PCM_16")),
    ("b.wav", 44_100, 2, dict(subtype="PCM_16")),
    ("c.wav", 48_000, 1, dict(subtype="PCM_24")),
    ("d.wav", 16_000, 3, dict(subtype="FLOAT")),
    ("e.WAV", 16_000, 1, dict(subtype="PCM_U8", format="WAV")),
    ("f.flac", 22_050, 2, dict(subtype="PCM_24")),
    ("g.ogg", 32_000, 1, dict(subtype="VORBIS")),
    ("h.mp3", 44_100, 2, dict(subtype="MPEG_LAYER_III")),
    ("i.aiff", 16_000, 1, dict(subtype="PCM_16", endian="BIG")),
    ("j.wav", 16_000, 1, dict(subtype="ULAW", format="WAVEX")),
]


@pytest.mark.parametrize(("name", "rate", "channels", "kind"), KINDS, ids=[name for name, *_ in KINDS])
def test_format_subtype_rate_length_and_level_are_kept(
    name: str, rate: int, channels: int, kind: dict[str, Any], tmp_path: Path
) -> None:
    moments = np.arange(round(1.2345 * rate)) / rate
    audio = np.stack([0.3 * np.sin(2 * np.pi * (300 + 100 * i) * moments) for i in range(channels)], axis=1)
    source = write(tmp_path / name, audio, rate, **kind)
    done = enhance_file(processor(), Job(source, tmp_path / "out" / name, name))
    before, after = soundfile.info(source), soundfile.info(tmp_path / "out" / name)
    for field in ("format", "subtype", "endian", "samplerate", "channels", "frames"):
        assert getattr(after, field) == getattr(before, field), field
    assert (done.seconds, done.clipped) == (before.frames / rate, 0)
    (found, _), (expected, _) = (soundfile.read(p, always_2d=True) for p in (tmp_path / "out" / name, source))
    inner = slice(rate // 10, -rate // 10)
    # Eight bits, and lossy coding done twice, are coarse; MP3 delays nothing here.
    assert np.abs(found - expected)[inner].max() < (0.03 if name[0] in "eghj" else 2e-3)


def test_mono_is_the_mean(tmp_path: Path) -> None:
    left, right = noise(4_000, 1), noise(4_000, 2)
    source = write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    enhance_file(processor(), Job(source, tmp_path / "out.wav", "a"), mono=True)
    found, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    np.testing.assert_allclose(found, (left + right) / 2, atol=1e-6)


def test_beyond_full_scale_floats_are_kept_and_others_counted(tmp_path: Path) -> None:
    # A full-scale square wave times 1.5: every sample is beyond.
    square = np.where(np.arange(5_000) // 50 % 2, 1.0, -1.0).astype(np.float32)
    for subtype, clipped, peak in (("FLOAT", 0, 1.5), ("PCM_16", 5_000, 1.0)):
        source = write(tmp_path / f"{subtype}.wav", square, subtype=subtype)
        done = enhance_file(processor(1.5), Job(source, tmp_path / "out" / source.name, "x"))
        assert done.clipped == clipped
        assert done.peak == pytest.approx(1.5, abs=1e-3)
        found, _ = soundfile.read(tmp_path / "out" / source.name)
        # Sixteen bits hold 32767 / 32768 at most; the signs must not have wrapped round.
        np.testing.assert_allclose(found, peak * square, atol=1e-3)


def test_a_bad_file_is_named_with_its_reason_and_the_rest_go_on(
    tmp_path: Path, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    good = write(folder / "deep" / "good.wav", noise(5_000))
    write(folder / "one.wav", noise(1))
    write(folder / "silent.flac", np.zeros(20_000))
    write(folder / "empty.wav", np.zeros(0))
    nan = noise(170_000)  # in the second block of 10 s
    nan[165_000] = np.nan
    write(folder / "nan.wav", nan, subtype="FLOAT")
    (folder / "cut.wav").write_bytes(good.read_bytes()[:30])
    (folder / "short.wav").write_bytes(good.read_bytes()[:5_000])
    (folder / "text.wav").write_text("this is not audio at all, only some text")
    (folder / "nothing.wav").write_bytes(b"")
    (folder / "notes.txt").write_text("not a recording")
    write(folder / ".hidden.wav", noise(10))
    flac = write(tmp_path / "whole.flac", noise(40_000)).read_bytes()
    (folder / "damaged.flac").write_bytes(flac[: len(flac) // 2])
    assert command("--out", tmp_path / "out", folder) == 1
    words = capsys.readouterr()
    written = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert written == ["deep/good.wav", "one.wav", "silent.flac"]
    assert "3 of 10 enhanced" in words.out
    for name, reason in (
        ("empty.wav", "holds no samples"),
        ("nan.wav", "sample 165000 is nan"),
        ("cut.wav", ""),
        ("short.wav", "cut short"),
        ("text.wav", ""),
        ("nothing.wav", "empty file"),
        ("damaged.flac", "damaged"),
    ):
        lines = [line for line in words.out.splitlines() if "failed" in line and f"{name}: {reason}" in line]
        assert len(lines) == 1, (name, words.out)
        assert f"] {name}: failed: {reason}" in words.err
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out" / "silent.flac")[0], 0)
    assert command("--out", tmp_path / "well", good) == 0


@pytest.mark.parametrize(
    ("name", "remedy"), [("call.g722", "ffmpeg -f g722 -i IN OUT.wav"), ("take.raw", "-f s16le -ar RATE -ac CHANNELS")]
)
def test_what_has_no_header_is_refused_with_the_remedy(
    name: str, remedy: str, tmp_path: Path, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"\x55" * 800)
    write(tmp_path / "good.wav", noise(500))
    assert command("--out", tmp_path / "out", tmp_path / name, tmp_path / "good.wav") == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "failed" in line]
    assert f"{name}: a {Path(name).suffix} file" in line
    assert "has no header that says how to read it: convert it" in line
    assert remedy in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.aiff", "a.mp3"])
def test_tags_are_kept(name: str, tmp_path: Path) -> None:
    """Those that the source's own format held, as soundfile reads them back; AIFF has no place for an album."""
    tags = {"title": "Prélude", "artist": "N. N.", "album": "First", "date": "2026"}
    source, place = tmp_path / name, tmp_path / "out" / name
    with soundfile.SoundFile(source, "w", 16_000, 1) as file:
        for tag, text in tags.items():
            with suppress(soundfile.LibsndfileError):
                setattr(file, tag, text)
        file.write(noise(8_000))
    enhance_file(processor(), Job(source, place, name))
    with soundfile.SoundFile(source) as before, soundfile.SoundFile(place) as after:
        assert after.copy_metadata() == before.copy_metadata()
        assert after.copy_metadata().get("title") == "Prélude"


def test_inputs_are_never_replaced(tmp_path: Path, command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path / "x" / "a.wav", noise(500)), write(tmp_path / "y" / "a.wav", noise(500, 2))
    before = a.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "x")
    for words, message in (
        (("--out", a.parent, a), "would replace an input"),
        (("--out", link, a), "would replace an input"),
        (("--out", a.parent, b, a), "would replace an input"),
        (("--out", tmp_path / "out", a, b), "would both become"),
        (("--out", tmp_path / "out", tmp_path / "absent.wav"), "no such file"),
        (("--out", tmp_path / "out", tmp_path / "out2"), "no such file"),
        (("--out", tmp_path / "out"), "name at least one"),
    ):
        assert command(*words) == 2
        assert message in capsys.readouterr().err
    assert a.read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_a_folder_of_results_inside_the_input_is_not_an_input(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", noise(10))
    write(tmp_path / "out" / "a.wav", noise(10))
    assert [job.name for job in plan([tmp_path], tmp_path / "out")] == ["a.wav"]
    # The same file twice is one job.
    assert len(plan([tmp_path / "a.wav", tmp_path], tmp_path / "out")) == 1
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no recordings"):
        plan([tmp_path / "none"], tmp_path / "out")


def test_a_folder_above_the_input_may_take_the_results(tmp_path: Path) -> None:
    write(tmp_path / "noisy" / "a.wav", noise(10))
    (job,) = plan([tmp_path / "noisy"], tmp_path)
    assert job.target == tmp_path / "a.wav"
    with pytest.raises(UserError, match="would replace an input"):
        plan([tmp_path / "noisy"], tmp_path / "noisy")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is no folder"):
        plan([tmp_path / "noisy"], tmp_path / "file")


def test_what_cannot_be_opened_fails_by_name_and_the_rest_go_on(
    tmp_path: Path, command: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    write(folder / "good.wav", noise(500))
    write(folder / "closed" / "b.wav", noise(500))
    (folder / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (folder / "notes.txt").touch()
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    scan = os.scandir

    def refusing(path: str) -> Any:  # Who runs the tests may be allowed everything.
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert command("--out", tmp_path / "out", folder, tmp_path / "gone.wav") == 1
    out = capsys.readouterr().out
    assert "1 of 4 enhanced" in out
    assert "no recordings, passed over: 1 .txt\n" in out
    for name, reason in (("closed", ""), ("phone.m4a", ".m4a files are not read here: convert it"), ("gone.wav", "No")):
        assert [line for line in out.splitlines() if "failed" in line and f"{name}: {reason}" in line], out


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_model_that_gives_no_numbers_fails(tmp_path: Path, subtype: str) -> None:
    source = write(tmp_path / "a.wav", noise(500), subtype=subtype)
    with pytest.raises(AudioError, match=r"a.wav: the model gives numbers that are not finite"):
        enhance_file(processor(np.nan), Job(source, tmp_path / "out" / "a.wav", "a"))
    assert not list((tmp_path / "out").iterdir())


def test_a_file_in_the_place_of_a_folder_costs_that_file(
    tmp_path: Path, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "a.wav", noise(500))
    write(tmp_path / "in" / "sub" / "b.wav", noise(500))
    write(tmp_path / "in" / "z.wav", noise(500))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("in the way")
    assert command("--out", tmp_path / "out", tmp_path / "in") == 1
    assert "2 of 3 enhanced" in capsys.readouterr().out


def test_blocks_of_long_files_are_joined(tmp_path: Path) -> None:
    # Longer than two blocks of 10 s: the shares of progress rise to 1.
    source, shares = write(tmp_path / "a.wav", noise(16_000 * 25), subtype="FLOAT"), []
    enhance_file(processor(), Job(source, tmp_path / "b.wav", "a"), progress=shares.append)
    assert shares == [0.4, 0.8, 1.0]
    before, after = (soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav"))
    np.testing.assert_allclose(before, after, atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "b.wav"]
