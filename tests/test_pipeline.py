"""The stream of crops: what it holds, that it depends on (seed, step) alone, how it resumes, fails and ends.

Expected crops are cut here from whole files; the files tell where a crop came from by their values.
"""

import dataclasses
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grain
import numpy as np
import pytest

from cmgan_jax.config import Config
from cmgan_jax.data import audio, mixing, pipeline
from cmgan_jax.data.audio import AudioError
from cmgan_jax.data.corpus import Clip, Corpus, CorpusSource, Pair
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.pipeline import Lookahead
from cmgan_jax.recipes import make_config, override

RATE = 16_000
CROP = 1600


def config(**numbers: Any) -> Config:
    base = {"seed": 7, "batch": 4, "steps_per_epoch": 0, "data.crop_seconds": 0.1}
    return override(make_config(preset="tiny"), base | {k.replace("__", "."): v for k, v in numbers.items()})


def signal(seed: int, frames: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(frames)).clip(-0.9, 0.9)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six pairs that train (the last shorter than a crop), five that validate; noisy is clean / 2."""
    root = tmp_path_factory.mktemp("pairs")
    for number in range(11):
        clean = signal(number, 1000 if number == 5 else 3000 + 100 * number)
        part = "train" if number < 6 else "validation"
        audio.write(root / part / "clean" / f"p1_{number:02}.wav", clean, RATE, "FLOAT")
        audio.write(root / part / "noisy" / f"p1_{number:02}.wav", clean / 2, RATE, "FLOAT")
    return open_corpus(CorpusSource(root), config())


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("mixture")
    for number in range(12):
        audio.write(root / f"speech/v{number % 4}/{number}.flac", signal(number, 2000 + 500 * number), RATE)
    for number in range(5):
        audio.write(root / f"noise/{number}.flac", signal(100 + number, 1000 + 900 * number), RATE)
    return open_corpus(CorpusSource(root), config())


@pytest.fixture(params=["pairs", "mixture"])
def corpus(request: pytest.FixtureRequest) -> Corpus:
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_test() -> Iterator[None]:
    """A closed iterator's threads end by themselves; until then they would disturb what the next test counts."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join(timeout=5)
            assert not thread.is_alive()


def take(iterator: grain.DatasetIterator, count: int) -> list[pipeline.Crops]:
    return [next(iterator) for _ in range(count)]


def equal(one: pipeline.Crops, other: pipeline.Crops) -> bool:
    return np.array_equal(one["clean"], other["clean"]) and np.array_equal(one["noisy"], other["noisy"])


def batches(corpus: Corpus, settings: Config, count: int, start: int = 0) -> list[pipeline.Crops]:
    iterator = pipeline.training_batches(corpus, settings, start)
    taken = take(iterator, count)
    iterator.close()
    return taken


def test_batches_have_the_promised_shape_and_are_cut_from_the_files(pairs: Corpus) -> None:
    whole = {pair.name: audio.read(pair.clean) for pair in pairs.train}
    seen = set()
    for batch in batches(pairs, config(), 6):
        assert batch["clean"].shape == batch["noisy"].shape == (4, CROP)
        assert batch["clean"].dtype == batch["noisy"].dtype == np.float32
        np.testing.assert_array_equal(batch["noisy"], batch["clean"] / 2)
        for crop in batch["clean"]:
            name, start = next(
                (name, int(start))
                for name, file in whole.items()
                for start in np.flatnonzero(file == crop[0])
                if np.array_equal(np.resize(file[start:], CROP) if len(file) < CROP else file[start:][:CROP], crop)
            )
            seen.add((name, start))
    assert {name for name, _ in seen} == set(whole)
    assert len(seen) > 12
    assert {start for name, start in seen if name == "p1_05"} == {0}


def test_hosts_have_the_rows_of_one_batch_and_their_number_may_change(pairs: Corpus) -> None:
    """Expected: the batches of one host, which two have in halves; the state of three batches is the same number."""
    whole = batches(pairs, config(), 4)
    halves = [pipeline.training_batches(pairs, config(), host=host, hosts=2) for host in range(2)]
    for batch in whole[:3]:
        for rows, iterator in zip((slice(0, 2), slice(2, 4)), halves, strict=True):
            assert equal(next(iterator), {"clean": batch["clean"][rows], "noisy": batch["noisy"][rows]})
    alone = pipeline.training_batches(pairs, config())
    alone.set_state(halves[1].get_state())
    assert equal(next(alone), whole[3])
    for iterator in (alone, *halves):
        iterator.close()


def test_every_pass_has_every_item_once_in_an_order_of_its_own() -> None:
    """The definition: item i of the stream is perm(seed, i // n)[i % n]."""
    orders = [[pipeline.stream_position(10, 7, 10 * p + k) for k in range(10)] for p in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders != [[pipeline.stream_position(10, 8, 10 * p + k) for k in range(10)] for p in range(3)]


def test_batch_k_holds_the_items_from_k_batches_on(corpus: Corpus) -> None:
    for k, batch in enumerate(batches(corpus, config(), 4)):
        for row in range(4):
            item = pipeline.training_item(corpus, config(), 4 * k + row)
            np.testing.assert_array_equal(batch["clean"][row], item["clean"])
            np.testing.assert_array_equal(batch["noisy"][row], item["noisy"])


def test_neither_threads_nor_prefetch_nor_batch_change_the_stream(corpus: Corpus) -> None:
    expected = batches(corpus, config(data__threads=1, data__prefetch=1), 6)
    assert all(map(equal, expected, batches(corpus, config(data__threads=4, data__prefetch=7), 6)))
    wide = batches(corpus, config(batch=8), 3)
    np.testing.assert_array_equal(
        np.concatenate([b["noisy"] for b in wide]), np.concatenate([b["noisy"] for b in expected])
    )
    assert not equal(expected[0], batches(corpus, config(seed=8), 1)[0])
    assert not equal(expected[0], batches(corpus, config(seed=-1), 1)[0])


def test_the_second_pass_cuts_elsewhere(pairs: Corpus) -> None:
    """Six items, batch 6: a batch is a pass, with the same files and other crops."""
    first, second = batches(pairs, config(batch=6), 2)
    assert not set(first["clean"][:, 0]) & set(second["clean"][:, 0]) - {audio.read(pairs.train[5].clean)[0]}


def test_a_resumed_iterator_goes_on_bit_for_bit(corpus: Corpus) -> None:
    expected = batches(corpus, config(), 9)
    iterator = pipeline.training_batches(corpus, config())
    take(iterator, 4)
    state = json.loads(json.dumps(iterator.get_state()))
    assert len(json.dumps(state)) < 100
    take(iterator, 2)
    iterator.set_state(state)
    assert all(map(equal, expected[4:7], take(iterator, 3)))
    iterator.close()
    other = pipeline.training_batches(corpus, config())
    other.set_state(state)
    assert all(map(equal, expected[4:], take(other, 5)))
    other.close()


def test_looking_ahead_takes_nothing(corpus: Corpus) -> None:
    """The state stays that of what was taken, so whoever resumes from it sees what was looked at first."""
    expected = batches(corpus, config(), 3)
    with closing(Lookahead(pipeline.training_batches(corpus, config()))) as stream:
        first = stream.look()
        assert stream.look() is first
        assert stream.get_state() == {"next_index": 0}
        assert stream.take() is first
        assert stream.get_state() == {"next_index": 1}
        assert all(map(equal, expected, [first, stream.take(), stream.look()]))
        other = pipeline.training_batches(corpus, config())
        other.set_state(stream.get_state())
    with closing(other):
        assert equal(next(other), expected[2])


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_step_is_reached_without_those_before_it(corpus: Corpus, step: int) -> None:
    assert equal(batches(corpus, config(), step + 1)[step], batches(corpus, config(), 1, step)[0])


def test_a_corpus_smaller_than_a_batch_works(pairs: Corpus) -> None:
    small = dataclasses.replace(pairs, train=pairs.train[:1])
    (batch,) = batches(small, config(batch=8), 1)
    assert batch["clean"].shape == (8, CROP)
    assert len(set(batch["clean"][:, 0])) > 4


def test_steps_per_epoch(pairs: Corpus) -> None:
    assert pipeline.steps_per_epoch(pairs, config(batch=4)) == 1
    assert pipeline.steps_per_epoch(pairs, config(batch=2)) == 3
    assert pipeline.steps_per_epoch(pairs, config(batch=100)) == 1
    assert pipeline.steps_per_epoch(pairs, config(steps_per_epoch=17)) == 17


def test_mixtures_keep_to_the_range_of_ratios(mixture: Corpus) -> None:
    """White signals: the plain ratio of powers is the SNR that was drawn, uniform between the limits."""
    settings = config(data__snr_low=3.0, data__snr_high=9.0, data__babble_share=0.0)
    ratios = []
    for batch in batches(mixture, settings, 25):
        noise = batch["noisy"] - batch["clean"]
        ratios.extend(10 * np.log10(np.sum(batch["clean"] ** 2, 1) / np.sum(noise**2, 1)))
        assert np.abs(batch["noisy"]).max() <= 1
    assert min(ratios) > 2.9
    assert max(ratios) < 9.1
    assert np.ptp(ratios) > 4.5


def test_babble_is_other_speech(mixture: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a share of 1 no noise file is opened, and no item is mixed with itself."""
    reads: list[Path] = []
    original = audio.read

    def record(path: Path, start: int = 0, frames: int | None = None) -> np.ndarray:
        reads.append(path)
        return original(path, start, frames)

    monkeypatch.setattr(audio, "read", record)
    speech = {clip.path for clip in mixture.speech}
    counts = set()
    for index in range(60):
        reads.clear()
        pipeline.training_item(mixture, config(data__babble_share=1.0), index)
        assert set(reads) <= speech
        assert len(set(reads)) == len(reads)
        counts.add(len(reads) - 1)
    assert counts == set(range(3, 9))
    two = dataclasses.replace(mixture, speech=mixture.speech[:2])
    pipeline.training_item(two, config(data__babble_share=1.0), 0)
    assert len(set(reads[-2:])) == 2
    one = dataclasses.replace(mixture, speech=mixture.speech[:1])
    pipeline.training_item(one, config(data__babble_share=1.0), 0)
    assert reads[-1] in {clip.path for clip in mixture.noise}


def test_only_the_crop_is_decoded(mixture: Corpus, pairs: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []
    original = audio.read

    def record(path: Path, start: int = 0, frames: int | None = None) -> np.ndarray:
        asked.append(frames)
        return original(path, start, frames)

    monkeypatch.setattr(audio, "read", record)
    for corpus in (mixture, pairs):
        for index in range(30):
            pipeline.training_item(corpus, config(data__babble_share=0.5), index)
    assert asked
    assert all(frames is not None and frames <= CROP for frames in asked)


def test_validation_crops_are_the_middle_of_evenly_spread_items(pairs: Corpus) -> None:
    """Two of five items: those nearest to the quarter points, numbers 1 and 3."""
    crops = pipeline.validation_crops(pairs, config(data__validation_crops=2))
    assert crops["clean"].shape == (2, CROP)
    for row, number in enumerate((1, 3)):
        whole = audio.read(pairs.validation[number].clean)  # type: ignore[union-attr]
        start = (len(whole) - CROP) // 2
        np.testing.assert_array_equal(crops["clean"][row], whole[start : start + CROP])
        np.testing.assert_array_equal(crops["noisy"][row], whole[start : start + CROP] / 2)
    assert pipeline.validation_crops(pairs, config(data__validation_crops=64))["clean"].shape == (5, CROP)


def test_validation_does_not_change(corpus: Corpus) -> None:
    """Not with the seed, and not with the number of files that are asked for."""
    one, other = (pipeline.validation_crops(corpus, config(seed=seed)) for seed in (1, 2))
    assert equal(one, other)
    everything = {name: (c, n) for name, c, n in pipeline.validation_files(corpus, config(data__validation_files=0))}
    assert list(everything) == [item.name for item in corpus.validation]
    (name, clean, noisy), *_ = pipeline.validation_files(corpus, config(data__validation_files=1, seed=3))
    np.testing.assert_array_equal(clean, everything[name][0])
    np.testing.assert_array_equal(noisy, everything[name][1])
    for item in corpus.validation:
        clean, noisy = everything[item.name]
        assert clean.shape == noisy.shape == (item.frames,)
        assert clean.dtype == noisy.dtype == np.float32
        assert not np.array_equal(clean, noisy)


def test_held_out_mixtures_use_held_out_noise(mixture: Corpus) -> None:
    """What was added must be a multiple of a part of the one noise file that is held out."""
    assert isinstance(mixture.validation[0], Clip)
    (noise,) = (audio.read(clip.path) for clip in mixture.validation_noise)
    _, clean, noisy = pipeline.validation_files(mixture, config(data__babble_share=0.0))[0]
    added = (noisy - clean)[: min(len(noise), len(clean), 500)]
    fits = [
        np.dot(noise[s : s + len(added)], added) / np.linalg.norm(noise[s : s + len(added)]) / np.linalg.norm(added)
        for s in range(len(noise) - len(added) + 1)
    ]
    assert max(fits) > 0.999


@pytest.mark.parametrize("harm", ["gone", "damaged", "shorter", "other"])
def test_a_file_that_fails_in_training_is_named(tmp_path: Path, harm: str) -> None:
    for seed, name in enumerate(("p1_1", "p2_1"), 1):
        for side in ("clean", "noisy"):
            audio.write(tmp_path / "train" / side / f"{name}.flac", signal(seed, 20_000), RATE)
    corpus = open_corpus(CorpusSource(tmp_path), config())
    path = tmp_path / "train/noisy/p1_1.flac"
    with closing(pipeline.training_batches(corpus, config())) as iterator:
        next(iterator)
        # Put in its place at once, as a thread may be reading it.
        harmed = tmp_path / "harmed.flac"
        if harm == "gone":
            path.unlink()
        elif harm == "damaged":
            content = bytearray(path.read_bytes())
            content[200:] = b"\x55" * (len(content) - 200)
            harmed.write_bytes(content)
            harmed.replace(path)
        else:
            # As long as before, and other samples.
            audio.write(harmed, signal(1, 500) if harm == "shorter" else signal(3, 20_000), RATE)
            harmed.replace(path)
        changed = "changed since it was checked"
        # A crop may lie before the damage.
        reason = {"gone": "No such file", "damaged": f"damaged|{changed}", "shorter": changed, "other": changed}[harm]
        with pytest.raises(AudioError) as caught:
            take(iterator, 50)
    assert str(path) in str(caught.value)
    assert re.search(reason, str(caught.value))
    assert "go on with --resume, and with --data where the corpus lies elsewhere now" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_goes_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a crop's decoding and the look at its file's stamp."""
    for seed, name in enumerate(("p1_1", "p2_1"), 1):
        for side in ("clean", "noisy"):
            audio.write(tmp_path / "train" / side / f"{name}.flac", signal(seed, 20_000), RATE)
    corpus = open_corpus(CorpusSource(tmp_path), config())
    original = audio.read

    def read_and_remove(path: Path, start: int, frames: int) -> np.ndarray:
        samples = original(path, start, frames)
        path.unlink()
        return samples

    monkeypatch.setattr(audio, "read", read_and_remove)
    with pytest.raises(AudioError, match=r"_1\.flac: No such file.*--resume"):
        pipeline.training_item(corpus, config(), 0)


def test_closing_ends_the_threads(pairs: Corpus) -> None:
    before = set(threading.enumerate())
    iterator = pipeline.training_batches(pairs, config(data__threads=3))
    take(iterator, 3)
    started = set(threading.enumerate()) - before
    assert len(started) == 3
    iterator.close()
    for thread in started:
        thread.join(timeout=5)
    assert not any(thread.is_alive() for thread in started)
    with pytest.raises(ValueError, match="closed"):
        next(iterator)


def test_batches_are_prepared_ahead(pairs: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first batch is in use the next ones, as many as configured, are decoded."""
    decoded: list[int] = []
    original = mixing.crop_start

    def count(rng: np.random.Generator, frames: int, samples: int) -> int:
        decoded.append(frames)
        return original(rng, frames, samples)

    monkeypatch.setattr(mixing, "crop_start", count)
    iterator = pipeline.training_batches(pairs, config(data__prefetch=3))
    next(iterator)
    deadline = time.monotonic() + 5
    while len(decoded) < 16 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(decoded) == 16
    iterator.close()


def test_real_pairs_give_batches_of_the_paper_size(shared: Path) -> None:
    settings = make_config()
    corpus = open_corpus(CorpusSource(shared / "voicebank"), settings)
    (batch,) = batches(corpus, settings, 1)
    assert batch["clean"].shape == (16, 32_000)
    assert isinstance(corpus.validation[0], Pair)
    # Noise was added to the speech: the two are alike, and differ.
    assert 0.5 < np.corrcoef(batch["clean"].ravel(), batch["noisy"].ravel())[0, 1] < 0.9999
