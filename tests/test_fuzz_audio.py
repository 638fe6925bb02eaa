"""Bytes that hypothesis damages: they are read, or refused with a reason, and nothing else happens."""

import shutil
from pathlib import Path

import numpy as np
import odd_recordings
import pytest
from damaged_files import encoded, speech
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_enhance_cli import processor

from cmgan_jax.data import audio
from cmgan_jax.data.audio import AudioError
from cmgan_jax.inference.files import Job, enhance_file

WHOLE = {
    "pcm.wav": encoded(samples=speech(0.05)),
    "float.wav": encoded(samples=speech(0.05), subtype="FLOAT"),
    "stereo.wav": encoded(samples=speech(0.05).reshape(-1, 2)),
    "a.flac": encoded(".flac", speech(0.05)),
    "a.ogg": encoded(".ogg", speech(0.05)),
} | {
    f"{kind}-{subtype}.wav": odd_recordings.encoded(kind, subtype, speech(0.1))
    for kind, subtype in (
        ("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "ALAC_16"),
        ("W64", "PCM_16"), ("RF64", "PCM_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16"),
    )
}  # fmt: skip

NUMBERS = st.sampled_from([0, 1, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
# What happens to a file, one after another: a place as a share of its length, mostly in its header.
PLACES = st.one_of(st.floats(0, 0.03), st.floats(0, 1))
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("number"), PLACES, NUMBERS),
        st.tuples(st.just("byte"), PLACES, st.integers(0, 255)),
        st.tuples(st.just("cut"), PLACES, st.integers(1, 60)),
        st.tuples(st.just("insert"), PLACES, st.integers(1, 60)),
        st.tuples(st.just("end"), PLACES, st.just(0)),
    ),
    min_size=1,
    max_size=4,
)


def change(content: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    for how, share, value in changes:
        place = int(share * len(content))
        before, after = content[:place], content[place:]
        content = {
            "number": lambda b, a, v: b + v.to_bytes(4, "little") + a[4:],
            "byte": lambda b, a, v: b + bytes([v]) + a[1:],
            "cut": lambda b, a, v: b + a[v:],
            "insert": lambda b, a, v: b + bytes(range(v)) + a,
            "end": lambda b, a, v: b,
        }[how](before, after, value)
    return content


def read(path: Path) -> tuple[int | None, str]:
    """Samples of a file that can be read, else why it cannot."""
    try:
        info, samples = audio.probe(path), audio.read(path)
    except AudioError as error:
        return None, error.reason
    assert samples.shape == (info.frames,)
    assert audio.RATES[0] <= info.sample_rate <= audio.RATES[1]
    return len(samples), ""


@pytest.mark.timeout(120)
@settings(
    max_examples=500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(sorted(WHOLE)), changes=CHANGES)
def test_a_damaged_file_is_read_or_named(tmp_path: Path, name: str, changes: list[tuple[str, float, int]]) -> None:
    source, target = tmp_path / name, tmp_path / "out" / name
    source.write_bytes(change(WHOLE[name], changes))
    frames, reason = read(source)
    assert frames is not None or reason
    shutil.rmtree(target.parent, ignore_errors=True)
    try:
        done = enhance_file(processor(), Job(source, target, name))
    except AudioError:
        assert not list(target.parent.glob("*"))
    else:
        assert np.isfinite(done.peak)
        assert read(target)[0] == frames
        assert [path.name for path in target.parent.iterdir()] == [name]
