"""The listening report as a file: what is in it, what is not, and that its images and audio are right."""

import base64
import hashlib
import io
import json
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cmgan_jax.evaluation import report
from cmgan_jax.evaluation.evaluation import Case, Evaluation, assemble
from cmgan_jax.evaluation.scores import METRICS, FileScores
from cmgan_jax.report import spectrogram

RATE = 16_000


def tone(hertz: float, seconds: float = 0.5, gain: float = 0.5) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def evaluation(folder: Path, pesq: dict[str, float | None], **paths: Path) -> Evaluation:
    """An evaluation with these PESQ scores, all files the same short tone but for `paths`."""
    file = folder / "tone.wav"
    soundfile.write(file, tone(1000), RATE)
    cases = [Case(name, {"clean": file, "enhanced": file} | paths) for name in pesq]
    scores = [
        FileScores(name, {}, dict.fromkeys(METRICS, "because"))
        if value is None
        else FileScores(name, dict.fromkeys(METRICS, 1.0) | {"pesq": value})
        for name, value in pesq.items()
    ]
    return assemble(cases, {"enhanced": scores})


def build(of: Evaluation, audio_files: int = 40) -> report.Page:
    source = {"version": "1.2.3", "source": {"clean": "somewhere"}}
    return report.build(of, published_scale=False, source=source, audio_files=audio_files)


def block(html: str, name: str) -> Any:
    match = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert match
    return json.loads(match[1])


def decode(png: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and colours of an indexed PNG without filters, every checksum verified (ISO/IEC 15948)."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    columns, rows, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour, rest) == (8, 3, [0, 0, 0])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(rows, columns + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:], np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)


# Spectrograms


def test_png_holds_pixels_and_colours():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colours = np.arange(36, dtype=np.uint8).reshape(12, 3)
    found = decode(spectrogram.png(pixels, colours))
    np.testing.assert_array_equal(found[0], pixels)
    np.testing.assert_array_equal(found[1], colours)


def test_a_tone_is_a_line_at_its_frequency():
    # 1 kHz of 16 kHz in 512 points is bin 32; the image has its lowest bin in the last row.
    spectra = spectrogram.power(tone(1000))
    assert spectra.shape == (257, 0.5 * RATE // spectrogram.HOP + 1)
    assert (spectra[:, 5:-5].argmax(axis=0) == 32).all()
    pixels, colours = decode(spectrogram.image(spectra, spectra.max()))
    assert (pixels[:, 5:-5].argmax(axis=0) == 256 - 32).all()
    assert pixels.max() == len(colours) - 1


def test_colours_tell_decibels_below_the_reference():
    powers = 10.0 ** (np.array([[0.0, -37.5, -75.0, -90.0, 12.0]]) / 10)
    pixels, colours = decode(spectrogram.image(powers, 1.0))
    top = len(colours) - 1
    np.testing.assert_array_equal(pixels, [[top, round(top / 2), 0, 0, top]])
    # Lightness (the weights of Rec. 709) rises from each colour to the next: the scale reads without hue.
    assert (np.diff(colours @ [0.2126, 0.7152, 0.0722]) > 0).all()


def test_long_signals_are_merged_and_silence_has_a_picture():
    assert spectrogram.power(np.zeros(60 * RATE)).shape[1] <= spectrogram.COLUMNS
    pixels, _ = decode(spectrogram.image(spectrogram.power(np.zeros(100)), 1.0))
    assert not pixels.any()


# The page


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    html = build(evaluation(tmp_path, {"a": 2.0})).html
    assert not re.search(r"%[A-Z-]+%", html)  # every placeholder is filled
    # The namespace of SVG is a name, not an address.
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert not re.search(r"<(link|script|img|audio)[^>]+(src|href)=\"(?!data:)", html)
    assert "default-src 'none'" in html


def test_the_policy_names_the_hashes_of_the_script_and_the_style(tmp_path):
    html = build(evaluation(tmp_path, {"a": 2.0})).html
    for pattern in (r"<style>(.*?)</style>", r"<script>(.*?)</script>"):
        match = re.search(pattern, html, re.DOTALL)
        assert match
        digest = base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in html


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "%DATA%", "a&b\"'"]
)
def test_names_of_files_are_data(tmp_path, name):
    of = evaluation(tmp_path, {name: 2.0, "b": None})
    html = build(of).html
    assert html.count("<script") == build(evaluation(tmp_path, {"a": 2.0, "b": None})).html.count("<script")
    assert "<img" not in html
    assert name in [file["name"] for file in block(html, "data")["files"]]


def test_notes_are_on_the_page(tmp_path):
    result = evaluation(tmp_path, {"a": 1.0})
    noted = replace(result.scores["enhanced"][0], notes=("is odd",))
    html = build(replace(result, scores={"enhanced": (noted,)})).html
    assert block(html, "data")["notes"] == ["enhanced: is odd: a"]
    assert 'id="notes-list"' in html


def test_the_worst_come_first_and_have_the_audio(tmp_path):
    page = build(evaluation(tmp_path, {"good": 4.0, "bad": 1.1, "middling": 2.0, "unscored": None}), audio_files=2)
    files = block(page.html, "data")["files"]
    assert [file["name"] for file in files] == ["unscored", "bad", "middling", "good"]
    assert [file["media"] is not None for file in files] == [True, True, False, False]
    assert files[0]["reasons"] == {"enhanced": ["because"]}
    assert page.html.count('id="media-') == 2
    assert "the worst 2 of 4 files" in page.describe()


def test_audio_is_the_file_s_own(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    soundfile.write(tmp_path / "e.flac", samples, RATE)
    page = build(evaluation(tmp_path, {"a": 2.0}, enhanced=tmp_path / "e.flac"))
    versions = block(page.html, "media-0")["versions"]
    assert [version["name"] for version in versions] == ["enhanced", "clean"]
    content = base64.b64decode(versions[0]["audio"])
    assert content[:4] == b"RIFF"
    found, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    np.testing.assert_array_equal(found, samples)
    assert (rate, versions[0]["seconds"], versions[0]["cut"]) == (RATE, 0.25, False)


def test_what_is_beyond_full_scale_is_turned_down_with_the_others(tmp_path):
    soundfile.write(tmp_path / "e.wav", tone(1000, gain=2.0), RATE, subtype="FLOAT")
    page = build(evaluation(tmp_path, {"a": 2.0}, enhanced=tmp_path / "e.wav"))
    contents = (base64.b64decode(version["audio"]) for version in block(page.html, "media-0")["versions"])
    enhanced, clean = (np.abs(soundfile.read(io.BytesIO(content))[0]).max() for content in contents)
    # The clean tone has an amplitude of 0.5, a quarter of the other's, which fills the scale.
    assert (enhanced, clean) == (pytest.approx(1.0, abs=1e-3), pytest.approx(0.25, abs=1e-3))


def test_pictures_of_a_file_share_their_scale(tmp_path):
    # Half the amplitude is 6.02 dB down: 5 of 63 steps of 75 dB (6.02 * 63 / 75 = 5.06).
    soundfile.write(tmp_path / "e.wav", tone(1000, gain=0.25), RATE, subtype="FLOAT")
    page = build(evaluation(tmp_path, {"a": 2.0}, enhanced=tmp_path / "e.wav"))
    enhanced, clean = (decode(base64.b64decode(v["image"]))[0] for v in block(page.html, "media-0")["versions"])
    assert int(clean.max()) - int(enhanced.max()) == 5


def test_odd_files_can_be_heard_as_far_as_they_go(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros((61 * 8000, 2), np.int16), 8000)
    page = build(evaluation(tmp_path, {"a": 2.0}, enhanced=tmp_path / "long.wav"))
    enhanced, clean = block(page.html, "media-0")["versions"]
    assert (enhanced["seconds"], enhanced["cut"]) == (60.0, True)
    assert (clean["seconds"], clean["cut"]) == (0.5, False)
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    page = build(evaluation(tmp_path, {"a": None}, enhanced=tmp_path / "bad.wav"))
    assert [version["name"] for version in block(page.html, "media-0")["versions"]] == ["clean"]
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    page = build(evaluation(tmp_path, {"a": None}, enhanced=tmp_path / "nan.wav"))
    assert block(page.html, "media-0")["versions"][0]["seconds"] == 100 / RATE


def test_a_file_of_which_nothing_can_be_read_is_in_the_table_without_audio(tmp_path):
    of = evaluation(tmp_path, {"a": None}, clean=tmp_path / "no.wav", enhanced=tmp_path / "no.wav")
    page = build(of)
    assert page.with_audio == 0
    assert block(page.html, "data")["files"][0]["media"] is None


def test_a_perfect_file_does_not_break_the_json(tmp_path):
    # SI-SDR of a perfect file has no value; JSON has no infinity.
    of = assemble([Case("a", {})], {"enhanced": [FileScores("a", {"pesq": 4.6}, {"si_sdr": "unbounded"})]})
    assert block(build(of).html, "data")["files"][0]["scores"]["enhanced"] == {"pesq": 4.6}
