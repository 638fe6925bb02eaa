"""Other systems beside this one: delays, the worker's output, records, the page, and the held-out set."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import RATE, speech, store

from cmgan_jax.data import audio
from cmgan_jax.data.corpus import Clip, Corpus, CorpusSource
from cmgan_jax.data.inspection import open_corpus
from cmgan_jax.data.mixing import active_power
from cmgan_jax.data.sources import recording
from cmgan_jax.errors import UserError
from cmgan_jax.evaluation.tables import MAIN
from cmgan_jax.recipes import make_config
from cmgan_jax.system.outputs import write_json, write_text
from experiments import held_out_set, rival_worker, rivals, rivals_record, rivals_report
from experiments.held_out_set import BANDS, make, plan, refuse_other_division
from experiments.rival_worker import FRAME, System, WorkerError, by_frames, correlation, lag_of, run_system

ABOUT = {"package": "rnn", "version": "1.2", "rate": 48_000, "delay": 960, "lag": 0}
TIMES = {"audio": 10.0, "wall": 2.5, "processor": 4.0}


class Delaying:
    """A system that gives back what it takes, so many samples later."""

    def __init__(self, delay: int):
        self._kept = np.zeros(delay, np.float32)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        self._kept = np.concatenate([self._kept, frame])
        given, self._kept = self._kept[:FRAME], self._kept[FRAME:]
        return given


def scores(pesq: float | None) -> dict[str, float | None]:
    return dict.fromkeys(MAIN, 3.0) | {"pesq": pesq}


def document() -> dict[str, Any]:
    """As `cmgan evaluate --json` writes it, of noisereduce (`enhanced`) and RNNoise."""

    def system(pesq: float | None) -> dict[str, Any]:
        found = {measure: value for measure, value in scores(pesq).items() if value is not None}
        return found | {"reasons": {} if pesq else {"pesq": "no speech in it"}, "notes": [], "llr": 0.5}

    def row(name: str, noisy: float, first: float, second: float | None, snr: float) -> dict[str, Any]:
        return {"name": name, **system(first), "noisy": system(noisy), "RNNoise": system(second), "input_snr": snr}

    return {"scale": "16-bit", "files": [row("a", 1.5, 1.25, 2.0, -3.0), row("b", 2.5, 1.75, None, 12.0)]}


def record(data: Path) -> dict[str, Any]:
    return rivals_record.build("voicebank", document(), {"noisereduce": ABOUT | TIMES, "RNNoise": ABOUT | TIMES}, data)


@pytest.mark.parametrize("delay", [0, 1, 480, 960, 1440])
@pytest.mark.parametrize("samples", [479, 480, 4801])
def test_a_delay_is_taken_out_and_the_end_comes_out(delay: int, samples: int) -> None:
    signal = np.random.default_rng(0).normal(size=samples).astype(np.float32)
    np.testing.assert_array_equal(by_frames(Delaying(delay), signal, delay), signal)


@pytest.mark.parametrize("lag", [-37, 0, 1, 960])
def test_a_lag_is_measured_to_the_sample(lag: int) -> None:
    """Of a signal that a filter and noise have changed, too."""
    rng = np.random.default_rng(0)
    before = np.convolve(rng.normal(size=20_000), np.exp(-np.arange(40) / 8), mode="same")
    after = 0.3 * np.roll(before, lag) + 0.2 * rng.normal(size=before.size)
    assert lag_of(correlation(before, after, 2400)) == lag


def fake(monkeypatch: pytest.MonkeyPatch, delays: int, taken_out: int) -> None:
    def load(delay: int) -> rival_worker.Begin:
        def begin() -> rival_worker.Enhance:
            process = Delaying(delays)
            return lambda samples: by_frames(process, samples, delay)

        return begin

    monkeypatch.setitem(rival_worker.SYSTEMS, "fake", System("numpy", 48_000, taken_out, load))


def test_the_worker_keeps_files_in_place_and_refuses_a_lag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that only delays, at 48 kHz: its files are the noisy ones, which have nothing that resampling loses."""
    low = [np.convolve(speech(seed=seed), np.hanning(8) / 4, mode="same") for seed in range(2)]
    paths = [store(tmp_path / f"{name}.wav", signal) for name, signal in zip("ab", low, strict=True)]
    fake(monkeypatch, delays=960, taken_out=960)
    found = run_system("fake", paths, tmp_path / "out")
    assert (found["lag"], found["delay"]) == (0, 960)
    assert found["audio"] == pytest.approx(2.4)
    assert min(found["wall"], found["processor"]) > 0
    for path in paths:
        before, after = audio.read(path), audio.read(tmp_path / "out" / path.name)
        assert before.shape == after.shape
        # One sample off would be a fifth.
        assert np.std(after - before) < 0.01 * np.std(before)
    fake(monkeypatch, delays=960, taken_out=957)
    with pytest.raises(WorkerError, match="lag by 3 samples at 48000 Hz after 957 were taken out"):
        run_system("fake", paths, tmp_path / "out")


def test_the_worker_ends_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "a.wav", np.zeros((800, 2), np.float32))
    assert rival_worker.main([str(tmp_path), str(tmp_path / "out"), "noise"]) == 2
    assert capsys.readouterr().err == "unknown system noise; there are noisereduce, RNNoise, DeepFilterNet3\n"
    with pytest.raises(WorkerError, match=r"a\.wav: not 16 kHz with one channel; convert it"):
        rival_worker.read(tmp_path / "a.wav")


def test_the_workers_output_is_its_last_line() -> None:
    told = {"python": "3.11", "systems": {"RNNoise": ABOUT | TIMES}}
    assert rivals.read_worker(f"a library says hello\n{json.dumps(told)}\n") == {"RNNoise": ABOUT | TIMES}
    untimed = json.dumps({"systems": {"RNNoise": ABOUT}})
    for other in ("", "hello\n", untimed, '{"systems": {"RNNoise": {}}}', '{"systems": 3}', "[]"):
        with pytest.raises(UserError, match="gave no result that can be read"):
            rivals.read_worker(other)


def test_an_environment_is_kept_made_anew_and_nothing_else_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def call(words: list[str], *_: Any) -> str:
        called.append(words)
        if words[2] == "venv":
            store(folder / "bin" / "python.wav", np.zeros(9)).rename(folder / "bin" / "python")
            write_text(folder / "pyvenv.cfg", "")
        return ""

    monkeypatch.setattr(rivals, "call", call)
    folder = tmp_path / "made"
    assert rivals.prepare_environment(folder) == folder / "bin" / "python"
    assert [words[2] for words in called] == ["venv", "pip"]
    rivals.prepare_environment(folder)
    assert len(called) == 2
    (folder / "requirements.txt").write_text("numpy\n")
    rivals.prepare_environment(folder)
    assert len(called) == 4
    store(tmp_path / "other" / "mine.wav", np.zeros(9))
    with pytest.raises(UserError, match="it holds other things; name a folder that is empty"):
        rivals.prepare_environment(tmp_path / "other")
    assert (tmp_path / "other" / "mine.wav").exists()


def test_a_program_that_fails_is_one_line() -> None:
    python = rivals.sys.executable
    with pytest.raises(UserError, match=r"^it broke: ValueError: too small; try again$"):
        rivals.call([python, "-c", "raise ValueError('too small')"], "it broke", "try again")
    with pytest.raises(UserError, match=r"^it broke: /absent/python: No such file or directory; try again$"):
        rivals.call(["/absent/python"], "it broke", "try again")
    assert rivals.call([python, "-c", "print(3); exit(1)"], "", "", accepted=(0, 1)) == "3\n"


def test_what_cannot_work_is_refused_first(tmp_path: Path) -> None:
    for side in ("clean", "noisy"):
        (tmp_path / side).mkdir()
    rivals.check(rivals.Run(tmp_path, "held-out"))
    with pytest.raises(UserError, match="--systems other: unknown; there are noisereduce"):
        rivals.check(rivals.Run(tmp_path, "a", systems=("other",)))
    with pytest.raises(UserError, match="no folder clean/ in it"):
        rivals.check(rivals.Run(tmp_path / "clean", "a"))
    with pytest.raises(UserError, match="--name a/b: write letters"):
        rivals.check(rivals.Run(tmp_path, "a/b"))


def test_a_record_holds_each_systems_scores_and_survives_its_file(tmp_path: Path) -> None:
    """The first system is `enhanced` in the evaluation; times, other measures and paths are left out."""
    made = record(tmp_path)
    assert made["systems"] == {"noisereduce": ABOUT, "RNNoise": ABOUT}
    first, second = made["files"]
    assert first["scores"] == {"noisy": scores(1.5), "noisereduce": scores(1.25), "RNNoise": scores(2.0)}
    assert (first["snr"], second["snr"], made["snr"]) == (-3.0, 12.0, "measured")
    assert second["scores"]["RNNoise"] == scores(None)
    assert second["reasons"] == {"RNNoise": {"pesq": "no speech in it"}}
    write_text(tmp_path / "voicebank.json", rivals_record.to_text(made))
    speed = {"set": "voicebank", "machine": {"cores": 2, "processor": "Z80"}, "systems": {"RNNoise": TIMES}}
    write_json(tmp_path / "speed.json", speed)
    assert rivals_record.read_all(tmp_path) == ({"voicebank": made}, speed)


def test_a_sets_own_table_tells_the_input_snr(tmp_path: Path) -> None:
    write_text(tmp_path / "mixtures.csv", "name,snr\na,4.25\nb,-1.5\n")
    write_json(tmp_path / "set.json", {"seed": 3})
    made = record(tmp_path)
    assert [file["snr"] for file in made["files"]] == [4.25, -1.5]
    assert (made["snr"], made["about"]) == ("mixed", {"seed": 3})


def test_other_files_are_no_records(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no records; make them"):
        rivals_record.read_all(tmp_path)
    write_json(tmp_path / "voicebank.json", record(tmp_path) | {"files": [{"name": "a", "scores": {}}]})
    with pytest.raises(UserError, match=r"voicebank\.json is no record of rivals"):
        rivals_record.read_all(tmp_path)


def test_the_page_has_means_gains_bands_and_gaps(tmp_path: Path) -> None:
    """By hand: noisy (1.5 + 2.5) / 2, noisereduce (1.25 + 1.75) / 2, which lose 0.25 and 0.75; RNNoise has one."""
    made = record(tmp_path)
    rest = "3.000 | 3.000 | 3.000 | 3.00 | 3.000 | 3.00 |"
    whole = rivals_report.scores_table(made)
    assert whole[0] == "|  | PESQ | CSIG | CBAK | COVL | SSNR, dB | STOI | SI-SDR, dB |"
    assert whole[2:] == [f"| noisy | 2.000 | {rest}", f"| noisereduce | 1.500 | {rest}", f"| RNNoise | 2.000 | {rest}"]
    gains = rivals_report.gain_table(made)
    assert gains[2].startswith("| noisereduce | -0.500 [-0.750, -0.250] |")
    assert gains[3].startswith("| RNNoise | +0.500 |")
    bands = rivals_report.band_table(made)
    assert bands[2] == f"| -5 to 0 (1) | noisy | 1.500 | {rest}"
    assert bands[6] == f"|  | noisereduce | 1.750 | {rest}"
    assert bands[5] == f"| 10 to 15 (1) | noisy | 2.500 | {rest}"
    assert bands[7] == f"|  | RNNoise | – | {rest}"
    page = rivals_report.page({"voicebank": made}, None)
    assert "- RNNoise, `b`: no PESQ: no speech in it" in page
    assert "These are 2 of the 824 pairs" in page
    assert "no scores of this project's own model yet" in page
    assert "have not been measured on a quiet machine yet" in page


def test_the_page_has_ours_and_its_speed_where_the_records_have_them(tmp_path: Path) -> None:
    """2.5 s and 4 processor seconds for 10 s of audio."""
    made = rivals_record.build("new", document(), {"ours": ABOUT | TIMES, "RNNoise": ABOUT | TIMES}, tmp_path)
    speed = {"set": "new", "machine": {"cores": 2, "processor": "Z80"}, "systems": {"ours": TIMES}}
    page = rivals_report.page({"new": made}, speed)
    assert "| cmgan-jax | 1.500 |" in page
    assert "| cmgan-jax | 0.250 | 0.400 |" in page
    assert "on 2 cores (Z80)" in page
    assert "own model yet" not in page


@pytest.mark.parametrize(
    ("snr", "band"),
    [(-5, (-5, 0)), (-0.01, (-5, 0)), (0, (0, 5)), (25, (20, 25)), (-5.1, (-np.inf, -5)), (25.1, (25, np.inf))],
)
def test_bands_begin_with_their_lower_end(snr: float, band: tuple[float, float]) -> None:
    assert rivals_report.band_of(snr) == band


def test_the_committed_page_is_that_of_the_committed_records() -> None:
    root = Path(rivals.__file__).resolve().parents[1]
    made = rivals_report.page(*rivals_record.read_all(root / "results" / "rivals"))
    assert (root / "docs" / "results.md").read_text() == made, "run `python -m experiments.rivals report`"


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Ten speakers with a clip of 4 s each, and 30 recordings of noise of 1 s."""
    for i in range(10):
        store(tmp_path / "speech" / f"s{i}" / "a.wav", speech(4.0, seed=i))
    rng = np.random.default_rng(0)
    for i in range(30):
        noise = 0.1 * rng.normal(size=RATE).astype(np.float32)
        store(tmp_path / "noise" / f"{chr(97 + i % 26)}oise{'x' * (i // 26 + 1)}.wav", noise)
    source = CorpusSource(speech=(tmp_path / "speech",), noise=(tmp_path / "noise",))
    return open_corpus(source, make_config(preset="small"))


def test_the_set_is_the_same_twice_and_another_with_another_seed(corpus: Corpus, tmp_path: Path) -> None:
    first = make(corpus, tmp_path / "1", per_band=2, seed=0)
    assert make(corpus, tmp_path / "2", per_band=2, seed=0) == first
    make(corpus, tmp_path / "3", per_band=2, seed=1)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.*"))
    assert len(files) == 2 * 12 + 2
    for path in files:
        assert (tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes(), path
    about = [json.loads((tmp_path / name / "set.json").read_text()) for name in "13"]
    assert about[0]["samples"] != about[1]["samples"]
    with pytest.raises(UserError, match="it is not empty; name another folder"):
        make(corpus, tmp_path / "1", per_band=2, seed=0)


def test_mixtures_have_their_snr_and_length(corpus: Corpus) -> None:
    """Two of each band; the SNR is measured from noisy - clean, in frames that are no pauses."""
    mixtures = list(plan(corpus, 2, 0))
    expected = [band for band in BANDS for _ in range(2)]
    for (mixture, clean, noisy), (low, high) in zip(mixtures, expected, strict=True):
        assert low <= mixture.snr <= high
        assert 10 * np.log10(active_power(clean) / active_power(noisy - clean)) == pytest.approx(mixture.snr, abs=0.01)
        assert len(clean) == len(noisy) == mixture.samples
        assert 3 * RATE <= mixture.samples <= 4 * RATE


def trains(corpus: Corpus, mixtures: list[held_out_set.Mixture]) -> list[str]:
    """Speakers, files and recordings of the mixtures that also train."""
    speakers = {clip.speaker for clip in corpus.speech}
    names = {clip.name for clip in (*corpus.speech, *corpus.noise)}
    recordings = {recording(clip.name) for clip in corpus.noise}
    found = [word for mixture in mixtures for word in (mixture.speech, mixture.noise) if word in names]
    found += [mixture.speaker for mixture in mixtures if mixture.speaker in speakers]
    return found + [mixture.noise for mixture in mixtures if recording(mixture.noise) in recordings]


def test_nothing_of_the_set_trains(corpus: Corpus) -> None:
    mixtures = [mixture for mixture, *_ in plan(corpus, 3, 0)]
    assert len(mixtures) == 18
    assert trains(corpus, mixtures) == []


@pytest.mark.slow
def test_the_set_of_the_real_corpora_is_the_recorded_one(shared: Path, tmp_path: Path) -> None:
    """Nothing of it trains, the corpora being in the order of the training, and the record names these samples."""
    if not (shared / "corpus_many").is_dir():
        pytest.skip("../shared/corpus_many is absent")
    corpus = held_out_set.held_out_corpus((shared / "corpus_many", shared / "corpus"))
    mixtures = make(corpus, tmp_path / "set", per_band=12, seed=0)
    assert trains(corpus, mixtures) == []
    assert {clip.speaker for clip in corpus.validation if isinstance(clip, Clip)} == {m.speaker for m in mixtures}
    root = Path(rivals.__file__).resolve().parents[1]
    recorded = json.loads((root / "results" / "rivals" / "held-out.json").read_text())["about"]
    assert json.loads((tmp_path / "set" / "set.json").read_text()) == recorded


def test_a_run_that_held_out_others_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    about: dict[str, Any] = {"config": {}, "provenance": {"data": {"division": corpus.division}}}
    write_json(tmp_path / "run.json", about)
    refuse_other_division(corpus, tmp_path)
    about["provenance"]["data"]["division"] = "0" * 64
    write_json(tmp_path / "run.json", about)
    with pytest.raises(UserError, match="held out other files than these corpora do; name the corpora"):
        refuse_other_division(corpus, tmp_path)
