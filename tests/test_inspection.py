"""The check before training: every kind of damage is made here on purpose, and must be told by path and reason."""

import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from G722 import G722

from cmgan_jax.data import audio, inspection
from cmgan_jax.data.corpus import CorpusSource
from cmgan_jax.data.inspection import measure, open_corpus
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import make_config

RATE = 16_000
CONFIG = make_config(preset="tiny")


def noise(frames: int = 8000, seed: str = "") -> np.ndarray:
    return np.random.default_rng((frames, *seed.encode())).uniform(-0.3, 0.3, frames)


def damaged_wav(path: Path) -> None:
    audio.write(path, noise(), RATE)
    path.write_bytes(path.read_bytes()[:9000])


def damaged_flac(path: Path) -> None:
    audio.write(path, noise(), RATE)
    path.write_bytes(path.read_bytes()[:9000])


def not_finite(path: Path) -> None:
    samples = noise()
    samples[[4000, 5000]] = np.nan, np.inf
    soundfile.write(path, samples, RATE, subtype="FLOAT")


DAMAGE = {
    "rate.wav": (
        lambda p: audio.write(p, noise(), 48_000),
        "sample rate 48000 Hz instead of 16000 Hz: .*cmgan prepare",
    ),
    "stereo.wav": (lambda p: soundfile.write(p, noise().reshape(-1, 2), RATE), "2 channels instead of 1"),
    "empty.wav": (lambda p: audio.write(p, noise(0), RATE), "empty: no samples"),
    "empty.g722": (lambda p: p.write_bytes(b""), "empty: no samples"),
    "bytes.flac": (lambda p: p.write_bytes(b""), r"empty file \(0 bytes\)"),
    "silent.flac": (lambda p: audio.write(p, np.full(8000, 0.25), RATE), "silent"),
    "dither.wav": (lambda p: audio.write(p, np.sign(noise()) / 32_768, RATE), "silent"),
    "nan.wav": (not_finite, r"2 samples are NaN or infinite, the first at 0\.250 s"),
    "text.wav": (lambda p: p.write_text("not audio at all, but a text"), "unreadable: Format not recognised"),
    "cut.wav": (damaged_wav, "cut short: 8956 of 16000 bytes"),
    "cut.flac": (damaged_flac, "damaged: flac decoder lost sync"),
    "gone.wav": (lambda p: p.symlink_to(p.with_name("nowhere.wav")), "No such file"),
}


def stored(path: Path, samples: np.ndarray) -> None:
    """As floats, whose values may be of any size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="FLOAT")


@pytest.mark.parametrize("scale", [2.0**7, 2.0**15, 2.0**23, 2.0**31], ids=["8", "16", "24", "32 bits"])
def test_integers_stored_as_floats_are_refused(tmp_path: Path, scale: float) -> None:
    """Training on such pairs gives losses in the thousands."""
    stored(tmp_path / "a.wav", 0.9 * scale * noise())
    (told,) = measure(tmp_path / "a.wav", RATE).reasons
    assert "where 1 is full scale" in told
    assert "32768" in told
    stored(tmp_path / "loud.wav", 4 / 0.3 * noise())
    assert measure(tmp_path / "loud.wav", RATE).reasons == (), "12 dB above full scale happens in mixing"


@pytest.mark.parametrize(("side", "decibels"), [("noisy", 60), ("clean", 60), ("noisy", 45), ("clean", 41)])
def test_pairs_of_which_one_is_at_another_scale_are_refused(tmp_path: Path, side: str, decibels: int) -> None:
    """No mixture is 40 dB louder than its speech, and none is softer: one of them was scaled."""
    other = "clean" if side == "noisy" else "noisy"
    for name, gap in (("p1_1", 0), ("p2_1", 0), ("p3_1", 35), ("p4_1", decibels)):
        for folder, gain in ((side, 0), (other, gap)):
            # An offset is no level.
            signal = 0.01 + 10 ** (-gain / 20) * noise(seed=name + folder)
            stored(tmp_path / "train" / folder / f"{name}.wav", signal)
    with pytest.raises(UserError) as refused:
        open_corpus(CorpusSource(tmp_path), CONFIG)
    word = "above" if side == "noisy" else "below"
    (line,) = str(refused.value).splitlines()[1:-1]
    assert line.startswith(f"  {tmp_path}/train/noisy/p4_1.wav: its level is {decibels} dB {word} its clean partner's")


@pytest.mark.parametrize("name", DAMAGE)
def test_each_damage_has_its_reason(tmp_path: Path, name: str) -> None:
    make, reason = DAMAGE[name]
    make(tmp_path / name)
    (told,) = measure(tmp_path / name, RATE).reasons
    with pytest.raises(UserError, match=f"^{reason}"):
        raise UserError(told)


def test_a_file_may_have_several_reasons(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 2)), 8000)
    reasons = measure(tmp_path / "a.wav", RATE).reasons
    assert [reason.split()[0] for reason in reasons] == ["sample", "2", "silent:"]


def test_sound_files_have_none(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", noise(), RATE)
    (tmp_path / "b.g722").write_bytes(G722(RATE, 64_000).encode((noise() * 10_000).astype(np.int16)))
    # A recorder that writes into a pipe leaves the largest length in the header.
    audio.write(tmp_path / "c.wav", noise(), RATE)
    content = bytearray((tmp_path / "c.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "c.wav").write_bytes(content)
    # A sneeze in a silent file is noise enough.
    audio.write(tmp_path / "d.wav", np.concatenate([np.zeros(7000), noise(1000)]), RATE)
    for path in sorted(tmp_path.iterdir()):
        assert measure(path, RATE) == inspection.FileMeasurement(8000), path


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Three sound pairs of two speakers, and one pair for every damage, on the noisy side."""
    for name in ("p1_1", "p1_2", "p2_1"):
        for side in ("clean", "noisy"):
            audio.write(tmp_path / "train" / side / f"{name}.wav", noise(seed=side + name), RATE)
    for name, (make, _) in DAMAGE.items():
        stem = name.replace(".", "_")
        audio.write(tmp_path / "train/clean" / f"{stem}.wav", noise(), RATE)
        make(tmp_path / "train/noisy" / f"{stem}.{name.rpartition('.')[2]}")
    audio.write(tmp_path / "train/clean/longer.wav", noise(8001), RATE)
    audio.write(tmp_path / "train/noisy/longer.wav", noise(8000), RATE)
    audio.write(tmp_path / "train/clean/alone.wav", noise(), RATE)
    return tmp_path


def test_all_problems_are_listed_at_once(damaged: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_corpus(CorpusSource(damaged), CONFIG)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{damaged}: {len(DAMAGE) + 2} files cannot be used:"
    assert "--skip-bad" in lines[-1]
    listed = [line.strip().partition(": ")[0] for line in lines[1:-1]]
    expected = [damaged / "train/noisy" / name.replace(".", "_") for name in DAMAGE]
    expected = [path.with_name(f"{path.name}.{path.name.rpartition('_')[2]}") for path in expected]
    expected += [damaged / "train/noisy/longer.wav", damaged / "train/clean/alone.wav"]
    assert listed == sorted(map(str, expected))
    assert f"  {damaged}/train/noisy/longer.wav: 8000 samples, but its clean partner has 8001" in lines


def test_skip_bad_goes_on_with_the_rest_and_says_how_many(damaged: Path) -> None:
    corpus = open_corpus(CorpusSource(damaged), CONFIG, skip_bad=True)
    assert [(pair.name, pair.frames) for pair in (*corpus.train, *corpus.validation)] == [
        ("p1_1", 8000),
        ("p1_2", 8000),
        ("p2_1", 8000),
    ]
    assert len({problem.path for problem in corpus.skipped}) == len(DAMAGE) + 2
    assert f"{len(DAMAGE) + 2} bad files" in corpus.describe()


def test_nothing_left_is_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        audio.write(tmp_path / f"speech/{name}.wav", noise(), RATE)
        audio.write(tmp_path / f"noise/{name}.wav", np.zeros(100), RATE)
    with pytest.raises(UserError, match=r"(?s)nothing is left to train on.*2 files.*noise/a\.wav: silent"):
        open_corpus(CorpusSource(tmp_path), CONFIG, skip_bad=True)


def test_the_test_set_is_checked_too(tmp_path: Path) -> None:
    """Better told before days of training than after them."""
    for part, name in (("train", "p1_1"), ("train", "p2_1"), ("test", "p3_1")):
        for side in ("clean", "noisy"):
            audio.write(tmp_path / part / side / f"{name}.wav", noise(seed=part + side + name), RATE)
    (tmp_path / "test/noisy/p3_1.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 file cannot.*\n.*test/noisy/p3_1\.wav: empty file"):
        open_corpus(CorpusSource(tmp_path), CONFIG)


def test_progress_is_told_and_an_interruption_leaves_no_thread(damaged: Path) -> None:
    seen: list[tuple[int, int]] = []
    open_corpus(CorpusSource(damaged), CONFIG, True, lambda done, of: seen.append((done, of)))
    files = 2 * (3 + len(DAMAGE) + 1)
    assert seen == [(done, files) for done in range(1, files + 1)]

    def interrupt(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_corpus(CorpusSource(damaged), CONFIG, True, interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("inspect")]
