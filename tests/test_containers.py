"""What is read is all that is there, or the file is named with the reason and the remedy: no header is believed."""

import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from odd_recordings import (
    FRAMES,
    ID3V1,
    KINDS,
    RATE,
    ape,
    encoded,
    flac_in_ogg,
    id3,
    mp3,
    of_unknown_length,
    put,
    signal,
    wav,
    without_note,
)
from test_enhance_cli import processor

from cmgan_jax.data import audio
from cmgan_jax.data.audio import AudioError
from cmgan_jax.inference.files import Job, enhance_file

NAME = Path("a recording")


def decode(content: bytes, block: int = 2**22) -> np.ndarray:
    """All samples of a file, float32 [S, channels], in blocks of so many."""
    with audio.open_stream(NAME, io.BytesIO(content)) as file:
        found = np.concatenate([*audio.blocks(NAME, file, file.frames, block), np.zeros((0, file.channels))])
        assert len(found) == file.frames
        return found


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for rounding: mpg123 rounds by where its buffers lie."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


def plain(content: bytes) -> np.ndarray:
    """What libsndfile gives for a file whose header is right."""
    return soundfile.read(io.BytesIO(content), always_2d=True, dtype="float32")[0]


UNKNOWN = of_unknown_length()


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_header_that_does_not_say_how_much_there_is(name: str, tmp_path: Path) -> None:
    """All are 16 bits of one signal, which FLAC's encoder rounds otherwise; `probe`, `read` and `enhance` agree."""
    expected = plain(encoded("WAV", "PCM_16"))
    found = decode(UNKNOWN[name])
    np.testing.assert_allclose(found, expected, atol=1 / 32_000)
    path = tmp_path / "a.wav"
    path.write_bytes(UNKNOWN[name])
    assert audio.probe(path) == (FRAMES, RATE, 1)
    assert_same(audio.read(path, 5_000, 2_000), found[5_000:7_000, 0])
    enhance_file(processor(), Job(path, tmp_path / "out.wav", "a"))
    assert soundfile.info(tmp_path / "out.wav").frames == FRAMES


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_a_file_cut_anywhere_is_refused_or_whole(kind: str, subtype: str) -> None:
    """But for 64 bytes, which a header that counts itself promises too: no sound of speech is as short."""
    content = encoded(kind, subtype)
    whole = decode(content)
    places = np.random.default_rng(0).integers(1, len(content), 60)
    for place in (*places, *range(len(content) - 3, len(content))):
        with suppress(AudioError):
            assert len(whole) - len(decode(content[:place])) <= 64
            assert len(content) - place <= 64


@pytest.mark.parametrize("kind", ["VORBIS", "OPUS"])
def test_ogg_without_its_last_page_is_cut_short(kind: str) -> None:
    content = encoded("OGG", kind, signal(60_000))
    with pytest.raises(AudioError, match=r"cut short: the page that ends its stream is missing; .* ffmpeg -i IN"):
        decode(content[: content.rindex(b"OggS")])
    pages = content.split(b"OggS")[1:]
    missing = b"".join(b"OggS" + page for page in (*pages[:2], *pages[3:]))
    with pytest.raises(AudioError, match="pages are missing"):
        decode(missing)


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_several_recordings_in_a_file_are_read_one_after_the_other(kind: str, subtype: str) -> None:
    first, second = (encoded(kind, subtype, signal(seed=seed)) for seed in (0, 1))
    expected = np.concatenate([plain(first), plain(second)])
    assert_same(decode(first + second), expected)
    assert_same(decode(first + second, block=1_234), expected)
    with audio.open_stream(NAME, io.BytesIO(first + second + first)) as file:
        for place in (FRAMES - 500, 2 * FRAMES + 700, 300):
            file.seek(place)
            got = np.concatenate(list(audio.blocks(NAME, file, 1_000)))
            np.testing.assert_allclose(got, np.concatenate([expected, plain(first)])[place : place + 1_000], atol=1e-6)


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_several_recordings_are_enhanced_as_one(kind: str, subtype: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(2 * encoded(kind, subtype))
    done = enhance_file(processor(), Job(tmp_path / "a", tmp_path / "out", "a"))
    assert done.seconds == 2 * FRAMES / RATE
    after = soundfile.info(tmp_path / "out")
    assert (after.frames, after.format, after.subtype) == (2 * FRAMES, kind, subtype)


def test_recordings_of_several_rates_and_streams_side_by_side_are_refused_by_name() -> None:
    first = encoded("OGG", "VORBIS")
    for other in (encoded("OGG", "VORBIS", rate=48_000), encoded("OGG", "VORBIS", signal().reshape(-1, 2))):
        with pytest.raises(AudioError, match=r"its first recording has 16000 Hz and 1 channels, another .* ffmpeg"):
            decode(first + other)
    # Grouped: the first pages of both, then the others; the serial number is at byte 14 of a page.
    second = bytearray(encoded("OGG", "VORBIS", signal(seed=1)))
    pages = [[b"OggS" + page for page in bytes(content).split(b"OggS")[1:]] for content in (first, second)]
    grouped = [pages[0][0], pages[1][0], *pages[0][1:], *pages[1][1:]]
    with pytest.raises(AudioError, match=r"holds 2 streams of audio side by side: choose one, e\.g\. ffmpeg"):
        decode(b"".join(grouped))


def test_mp3_of_which_nothing_tells_the_length() -> None:
    """Pauses make its rate vary, so that no guess by bytes is right. A decoder lags behind by 529 samples."""
    content = mp3(signal(100_000))
    bare, expected = without_note(content), plain(content)
    found = decode(bare)
    assert 100_000 <= len(found) <= 100_000 + 3 * 1_152  # an encoder adds up to two frames
    shift = int(np.argmax(np.correlate(found[:8_000, 0], expected[:6_000, 0], mode="valid")))
    np.testing.assert_allclose(found[shift : shift + 95_000], expected[:95_000], atol=1e-4)
    for front, end in (
        (id3(300_000), b""),
        (id3(500) + bytes(3_000), ID3V1),
        (b"", ape(700) + ID3V1),
        (b"", ape(700, head=False)),
        (b"", b"LYRICSBEGIN" + b"x" * 89 + b"000100LYRICS200" + ID3V1),
        (id3(10) + id3(20), bytes(20_000)),
        (bare[1:150], b"rubbish " * 200),  # a recorder that begins within a frame
    ):
        assert_same(decode(front + bare + end), found)
    for lying in (1, 50):
        place = content.index(b"Xing" if b"Xing" in content[:200] else b"Info") + 8
        assert len(decode(put(content, place, ">I", lying))) >= 100_000


def test_mp3_one_after_the_other_with_and_without_notes_and_tags() -> None:
    content = mp3(signal(40_000))
    bare = without_note(content)
    for whole in (content + ID3V1 + id3(900) + content, content + content, bare + id3(9) + content):
        assert 80_000 <= len(decode(whole)) <= 80_000 + 6 * 1_152
    assert 80_000 <= len(decode(bare + id3(9) + bare)) <= 80_000 + 6 * 1_152
    assert 80_000 <= len(decode(content + bare)) <= 80_000 + 6 * 1_152


def test_mp3_that_is_cut_or_holed_is_refused() -> None:
    content = mp3(signal(40_000))
    bare = without_note(content)
    for damaged, words in (
        (content[: len(content) // 2], "cut short"),
        (bare[:-20], "cut short: its last frame"),
        (content[: content.index(bare) + len(bare) // 2] + b"junk" * 30 + content[len(content) // 2 :], "damaged|cut"),
    ):
        with pytest.raises(AudioError, match=f"({words}).*ffmpeg"):
            decode(damaged)


def test_audio_that_a_header_leaves_out_is_never_left_out_in_silence() -> None:
    """A recorder that was killed between two updates of its header: nobody can know, so the remedy is said."""
    with pytest.raises(AudioError, match=r"\d+ bytes follow after the end .* sox --ignore-length"):
        decode(wav(6_000, 6_036))
    flac = encoded("FLAC", "PCM_16")
    assert_same(decode(put(flac, 22, ">I", 4_096)), plain(flac))


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize(
    "end", [b"rubbish " * 100, bytes(50_000), ID3V1, ape(100)], ids=["junk", "zeros", "id3", "ape"]
)
def test_what_follows_and_is_no_audio_is_passed_over(kind: str, subtype: str, end: bytes) -> None:
    content = encoded(kind, subtype)
    assert_same(decode(content + end), plain(content))


@pytest.mark.parametrize(
    ("kind", "subtype", "channels"),
    [
        *((*kind, 1) for kind in KINDS),
        *((*kind, 2) for kind in KINDS[:-1]),
        ("WAV", "GSM610", 1),
        ("WAV", "G721_32", 1),
    ],
)
def test_parts_and_blocks_are_the_slices_of_the_whole(kind: str, subtype: str, channels: int) -> None:
    """Also of coded kinds, at any place: libsndfile alone loses its place in Vorbis, and its state in MP3."""
    audio_in = np.stack([signal(60_000, seed) for seed in range(channels)], axis=1)
    content = encoded(kind, subtype, audio_in)
    whole = plain(content)
    assert_same(decode(content, block=777), whole)
    with audio.open_stream(NAME, io.BytesIO(content)) as file:
        for place in np.random.default_rng(0).integers(0, 59_000, 12):
            file.seek(int(place))
            np.testing.assert_allclose(file.read(900), whole[place : place + 900], atol=1e-6)


def test_within_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", wav(0, 0))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, audio.open_stream(NAME, archive.open("a.wav")) as file:  # type: ignore[arg-type]
        assert file.frames == FRAMES


def test_a_large_file_that_was_replaced_is_looked_through_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for frames in (700_000, 800_000):
        path.write_bytes(put(encoded("WAV", "PCM_16", signal(frames)), 40, "<I", 0))
        assert audio.probe(path).frames == frames
        assert len(audio.read(path, frames - 5)) == 5


def test_audio_of_mp3_within_wav() -> None:
    """A WAV file may hold MP3 (coding 0x55); libsndfile takes its length from a guess."""
    content = mp3(signal(40_000))
    head = wav()[:44]
    head = put(put(head, 20, "<H", 0x55), 40, "<I", len(content))
    assert_same(decode(head + content), plain(content))


def test_flac_within_ogg_alone_chained_and_cut() -> None:
    """libsndfile does not read it; its packets are what a FLAC file holds, and the total is in the last page alone."""
    native = encoded("FLAC", "PCM_16")
    unknown = put(put(native, 21, "B", native[21] & 0xF0), 22, ">I", 0)
    content, expected = flac_in_ogg(unknown), plain(native)
    assert_same(decode(content), expected)
    assert_same(decode(content + flac_in_ogg(unknown, serial=8)), np.concatenate([expected, expected]))
    with pytest.raises(AudioError, match="cut short"):
        decode(content[:-100])
