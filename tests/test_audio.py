"""Audio files: exact parts, plain errors, whole writes. Expected values come from arrays made here."""

import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from G722 import G722

from cmgan_jax.data import audio, g722
from cmgan_jax.data.audio import AudioError, AudioInfo

RATE = 16_000


def ramp(frames: int) -> np.ndarray:
    """16-bit values that differ from sample to sample, so that a shifted crop shows; exact in PCM_16."""
    return ((np.arange(frames) * 7919) % 20_000 - 10_000).astype(np.float32) / 32_768


def encode_g722(path: Path, frames: int) -> None:
    tone = (8000 * np.sin(np.arange(frames) * 0.05)).astype(np.int16)
    path.write_bytes(G722(RATE, 64_000).encode(tone))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.WAV"])
def test_what_is_written_is_read_back_exactly(tmp_path: Path, name: str) -> None:
    path = tmp_path / "made" / name
    audio.write(path, ramp(5000), RATE)
    assert audio.probe(path) == AudioInfo(5000, RATE, 1)
    whole = audio.read(path)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole, ramp(5000))
    assert os.listdir(path.parent) == [name]


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize(("start", "frames", "left"), [(0, 10, 10), (4321, 100, 100), (4990, 50, 10), (6000, 5, 0)])
def test_a_part_is_the_slice_of_the_whole(tmp_path: Path, name: str, start: int, frames: int, left: int) -> None:
    audio.write(tmp_path / name, ramp(5000), RATE)
    part = audio.read(tmp_path / name, start, frames)
    assert part.shape == (left,)
    np.testing.assert_array_equal(part, ramp(5000)[start : start + frames])


def test_vorbis_and_g722_parts_are_slices_of_the_whole(tmp_path: Path) -> None:
    tone = 0.3 * np.sin(np.arange(40_000) * 0.05)
    audio.write(tmp_path / "a.ogg", tone, RATE)
    encode_g722(tmp_path / "a.g722", 40_000)
    for name in ("a.ogg", "a.g722"):
        whole = audio.read(tmp_path / name)
        assert audio.probe(tmp_path / name) == AudioInfo(40_000, RATE, 1)
        assert whole.shape == (40_000,)
        assert np.abs(whole).max() == pytest.approx(0.3 if name == "a.ogg" else 8000 / 32_768, rel=0.1)
        # Vorbis frames overlap: a decoder that starts in the middle may round its first frame otherwise.
        np.testing.assert_allclose(audio.read(tmp_path / name, 12_345, 999), whole[12_345:13_344], atol=1e-6)
    assert audio.read(tmp_path / "a.g722", 39_999, 7).shape == (1,)


@pytest.mark.parametrize(
    ("name", "form", "subtype"),
    [("a.mp3", "MP3", "MPEG_LAYER_III"), ("gsm.wav", "WAV", "GSM610"), ("a.au", "AU", "G721_32")],
)
def test_parts_of_kinds_that_cannot_be_entered_anywhere_are_slices_of_the_whole(
    tmp_path: Path, name: str, form: str, subtype: str
) -> None:
    """An MP3 frame needs bits of frames before it, and libsndfile cannot seek in some telephony codes at all."""
    t = np.arange(6 * RATE) / RATE
    tone = 0.1 * np.sin(2 * np.pi * 200 * t) * (1 + np.sin(2 * np.pi * 3 * t))
    samples = tone + 0.05 * np.random.default_rng(0).standard_normal(t.size)
    soundfile.write(tmp_path / name, samples, RATE, format=form, subtype=subtype)
    whole = audio.read(tmp_path / name)
    for start in range(500, 5 * RATE, 1009):
        np.testing.assert_allclose(audio.read(tmp_path / name, start, 4000), whole[start : start + 4000], atol=1e-6)


def test_only_the_part_asked_for_is_decoded(tmp_path: Path) -> None:
    """Damage after the crop does not touch it; damage within it is an error that names the file."""
    path = tmp_path / "a.flac"
    audio.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 64_000), RATE)
    content = bytearray(path.read_bytes())
    content[-40_000:-30_000] = b"\x55" * 10_000
    path.write_bytes(content)
    assert audio.read(path, 100, 4000).shape == (4000,)
    with pytest.raises(AudioError, match=r"a\.flac: damaged"):
        audio.read(path)


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([ramp(100), -ramp(100)], axis=1), RATE)
    assert audio.probe(tmp_path / "a.wav").channels == 2
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav"), np.zeros(100))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("content", [b"", b"not audio at all " * 20])
def test_what_is_not_audio_is_named_with_a_reason(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    for attempt in (audio.probe, audio.read):
        with pytest.raises(AudioError) as caught:
            attempt(path)
        assert str(path) in str(caught.value)
        assert caught.value.reason == ("unreadable: Format not recognised" if content else "empty file (0 bytes)")


@pytest.mark.parametrize("suffix", [".wav", ".g722"])
def test_the_file_systems_words_are_passed_on(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(AudioError, match="No such file"):
        audio.probe(tmp_path / f"absent{suffix}")
    with pytest.raises(AudioError, match="No such file"):
        audio.read(tmp_path / f"absent{suffix}")
    with pytest.raises(AudioError, match="Is a directory"):
        audio.read(tmp_path / f"folder{suffix}")


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\0" * 100)
    with pytest.raises(AudioError, match="not a kind of file"):
        audio.read(tmp_path / "a.txt")
    with pytest.raises(AudioError, match="choose one of"):
        audio.write(tmp_path / "b.g722", ramp(10), RATE)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, ramp(100), RATE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(AudioError, match="No space left"):
        audio.write(path, ramp(200), RATE)
    assert os.listdir(tmp_path) == ["a.wav"]
    np.testing.assert_array_equal(audio.read(path), ramp(100))
    with pytest.raises(ValueError, match="finite"):
        audio.write(path, np.array([0.0, np.nan]), RATE)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_a_disk_that_fills_meanwhile_is_told_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """A limit on the size of files stands for the disk: it, too, refuses a write half way."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(AudioError, match="File too large") as caught:
            audio.write(tmp_path / name, np.random.default_rng(0).uniform(-1, 1, RATE), RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert os.listdir(tmp_path) == []


def test_the_g722_cache_is_bounded_fresh_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = g722.ByteBoundedCache(3 * 2 * 1000)
    monkeypatch.setattr(g722, "_cache", cache)
    paths = [tmp_path / f"{i}.g722" for i in range(5)]
    for path in paths:
        encode_g722(path, 1000)
        audio.read(path)
    assert [key[0] for key in cache._held] == paths[2:]
    encode_g722(paths[4], 500)
    assert len(audio.read(paths[4])) == 500

    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.extend(audio.read(p) for p in paths * 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(r) for r in results].count(500) == 40
    assert len(results) == 200
    assert cache._bytes == sum(a.nbytes for a in cache._held.values()) <= 6000
