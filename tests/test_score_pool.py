"""The scoring pool: the pesq package's own numbers, and one score as the price of every fault.

Signals are synthetic: noise bursts with pauses, which PESQ takes for utterances. Expected scores come from calling
the pesq package directly, in this process; expected failures are those the package was seen to have (DESIGN.md).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pesq
import pytest
import soundfile

from cmgan_jax.errors import UserError
from cmgan_jax.metrics import scoring_pool, scoring_worker
from cmgan_jax.metrics.pesq_score import SILENT_RMS, Failure, gate
from cmgan_jax.metrics.scoring_pool import ScorePool

ROOT = Path(__file__).resolve().parents[1]
RATE = 16_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def bursts(seconds: float, period: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise that is on for half of each period, and the same in noise."""
    rng = np.random.default_rng(seed)
    time_axis = np.arange(int(seconds * RATE)) / RATE
    clean = rng.normal(size=time_axis.size) * 0.1 * (time_axis % period >= period / 2)
    noisy = clean + rng.normal(size=clean.size) * 0.01
    return clean.astype(np.float32), noisy.astype(np.float32)


CLEAN, NOISY = bursts(1.0, 0.5)
LONG = bursts(60.0, 1.2)  # about 3 s of work: time enough to interfere
DEADLY = bursts(30.0, 0.5)  # 60 utterances: seen to kill the process that calls the package (DESIGN.md: over 50)


@pytest.fixture(scope="module")
def pool() -> Iterator[ScorePool]:
    with ScorePool(1, time_limit=30) as pool:
        yield pool


@pytest.fixture
def own() -> Iterator[ScorePool]:
    """A pool to be hurt."""
    with ScorePool(1, time_limit=30) as pool:
        yield pool


def eventually(condition: Callable[[], bool], limit: float = 20.0) -> bool:
    end = time.monotonic() + limit
    while not (fits := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return fits


def alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def busy(pid: int) -> bool:
    return " R " in Path(f"/proc/{pid}/stat").read_text()


def test_scores_are_the_package_s_bit_for_bit(pool: ScorePool):
    # Modes alternate in one worker: the package's global state must not leak from one call into the next.
    for mode in ("wb", "nb", "wb"):
        score = pool.score(CLEAN, NOISY, mode).result()
        assert score.value == pesq.pesq(RATE, CLEAN, NOISY, mode)
        assert score.failure is None
        assert score.seconds > 0


def test_real_speech_scores_as_by_the_package(pool: ScorePool, shared: Path):
    for noisy_file in sorted((shared / "voicebank/test/noisy").glob("*.flac"))[:3]:
        clean = soundfile.read(noisy_file.parent.parent / "clean" / noisy_file.name, dtype="float32")[0]
        noisy = soundfile.read(noisy_file, dtype="float32")[0]
        assert pool.score(clean, noisy).result().value == pesq.pesq(RATE, clean, noisy, "wb")


def test_a_batch_keeps_its_order_and_the_caller_may_change_the_signals_at_once(own: ScorePool):
    noise = np.random.default_rng(1).normal(size=CLEAN.size).astype(np.float32)
    estimates = np.stack([CLEAN + level * noise for level in np.array([0, 0.001, 0.01, 0.1], np.float32)])
    expected = [pesq.pesq(RATE, CLEAN, estimate, "wb") for estimate in estimates]
    futures = own.score_batch(np.stack([CLEAN] * 4), estimates)
    estimates[:] = 0
    assert [future.result().value for future in futures] == expected
    assert expected == sorted(expected, reverse=True)


def test_narrow_band_at_8_khz():
    clean, noisy = CLEAN[::2], NOISY[::2]
    with ScorePool(1, time_limit=30, sample_rate=8_000, mode="nb") as pool:
        assert pool.score(clean, noisy).result().value == pesq.pesq(8_000, clean, noisy, "nb")
        with pytest.raises(UserError, match="wb needs 16000 Hz"):
            pool.score(clean, noisy, "wb")


def constant(value: float, size: int = RATE) -> np.ndarray:
    return np.full(size, value, np.float32)


@pytest.mark.parametrize(
    ("clean", "estimate", "failure"),
    [
        (CLEAN[:0], NOISY[:0], Failure.too_short),
        (CLEAN[:3_999], NOISY[:3_999], Failure.too_short),
        (CLEAN, np.append(NOISY[1:], np.float32(np.nan)), Failure.non_finite),
        (CLEAN, np.append(NOISY[1:], np.float32(np.inf)), Failure.non_finite),
        (np.append(CLEAN[1:], np.float32(np.nan)), NOISY, Failure.non_finite),
        (constant(0), NOISY, Failure.silent_reference),
        (constant(0.99 * SILENT_RMS), NOISY, Failure.silent_reference),
        (constant(0), constant(0), Failure.silent_reference),
        (CLEAN, constant(0), Failure.silent_estimate),
        (CLEAN, NOISY * np.float32(1e-30), Failure.silent_estimate),
    ],
)
def test_what_has_no_score_is_told_without_a_worker(
    pool: ScorePool, clean: np.ndarray, estimate: np.ndarray, failure: Failure
):
    future = pool.score(clean, estimate)
    assert future.done()
    score = future.result()
    assert (score.failure, score.seconds) == (failure, 0)
    assert np.isnan(score.value)


def test_the_gate_lets_pass_what_pesq_can_score(pool: ScorePool):
    # 1/4 s is the package's own limit, and it scores an estimate 180 dB down as it scores any other.
    assert gate(constant(1.01 * SILENT_RMS), NOISY, RATE) is None
    assert pool.score(CLEAN[4_000:8_000], NOISY[4_000:8_000]).result().failure is None
    quiet, loud = (pool.score(CLEAN, NOISY * np.float32(gain)).result() for gain in (1e-9, 1))
    assert quiet.value == pytest.approx(loud.value, abs=1e-3)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (pesq.NoUtterancesError, "no_utterances"),
        (pesq.BufferTooShortError, "too_short"),
        (pesq.OutOfMemoryError, "out_of_memory"),
        (MemoryError, "out_of_memory"),
        (pesq.InvalidSampleRateError, "pesq_error"),
        (pesq.PesqError, "pesq_error"),
        (ValueError, "undefined"),
    ],
)
def test_every_error_of_the_package_has_a_name(monkeypatch: pytest.MonkeyPatch, error: type[Exception], outcome: str):
    def fail(*_: object) -> float:
        raise error

    monkeypatch.setattr(pesq, "pesq", fail)
    assert scoring_worker.measure(RATE, "wb", CLEAN, NOISY) == (outcome, 0)


def test_a_number_that_no_opinion_score_can_be_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pesq, "pesq", lambda *_: 7.0)
    assert scoring_worker.measure(RATE, "wb", CLEAN, NOISY) == ("undefined", 0)


def test_every_outcome_of_a_worker_is_a_failure_with_that_name():
    assert [Failure(outcome) for outcome in scoring_worker.OUTCOMES[1:]]


def test_no_speech_is_the_package_s_no_utterances(pool: ScorePool):
    # A hum of 20 Hz: far above the gate's level, no speech to PESQ.
    hum = 0.1 * np.sin(2 * np.pi * 20 * np.arange(RATE) / RATE).astype(np.float32)
    with pytest.raises(pesq.NoUtterancesError):
        pesq.pesq(RATE, hum, NOISY, "wb")
    assert pool.score(hum, NOISY).result().failure is Failure.no_utterances


@linux
def test_a_signal_that_kills_the_worker_costs_one_score(own: ScorePool):
    before = own.pids
    futures = [own.score(CLEAN, NOISY), own.score(*DEADLY), own.score(CLEAN, NOISY)]
    scores = [future.result() for future in futures]
    assert [score.failure for score in scores] == [None, Failure.worker_crash, None]
    assert scores[0].value == scores[2].value
    assert own.pids != before
    assert not Path(f"/proc/{before[0]}").exists()  # not even as a zombie


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_is_killed_costs_one_score(own: ScorePool, number: signal.Signals):
    futures = [own.score(*LONG), own.score(CLEAN, NOISY)]
    (pid,) = own.pids
    assert eventually(lambda: busy(pid))
    os.kill(pid, number)
    assert [future.result().failure for future in futures] == [Failure.worker_crash, None]


@linux
def test_a_stopped_worker_costs_one_score_and_the_time_limit():
    with ScorePool(1, time_limit=1.0) as pool:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        first, second = pool.score(CLEAN, NOISY), pool.score(CLEAN, NOISY)
        score = first.result()
        assert score.failure is Failure.timeout
        assert 1.0 <= score.seconds < 1.5
        assert second.result().failure is None
        assert not Path(f"/proc/{pid}").exists()


@linux
def test_a_stopped_worker_that_does_not_even_read_costs_the_same():
    # 30 s of audio are 4 MB: far more than the socket holds.
    with ScorePool(1, time_limit=0.3) as pool:
        os.kill(pool.pids[0], signal.SIGSTOP)
        assert pool.score(*DEADLY).result().failure is Failure.timeout


def test_a_score_may_have_a_limit_of_its_own() -> None:
    """A millisecond is too short for PESQ."""
    with ScorePool(1, time_limit=1e-3) as pool:
        assert pool.score(CLEAN, NOISY).result().failure is Failure.timeout
        assert pool.score(CLEAN, NOISY, time_limit=60.0).result().failure is None


@linux
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_workers_leave_signals_to_their_parent(own: ScorePool, name: str):
    before = own.pids
    os.kill(before[0], getattr(signal, name))
    assert own.score(CLEAN, NOISY).result().failure is None
    assert own.pids == before


@linux
def test_a_worker_that_eats_memory_costs_one_score():
    # An idle worker maps about 110 MB; four minutes of audio need another 270 (measured).
    with ScorePool(1, time_limit=60, memory_limit=128 << 20) as pool:
        assert pool.score(CLEAN, NOISY).result().failure is None
        failure = pool.score(*bursts(240.0, 20.0)).result().failure
        assert failure in (Failure.out_of_memory, Failure.worker_crash)
        assert pool.score(CLEAN, NOISY).result().failure is None


@linux
def test_a_worker_knows_nothing_of_jax_and_has_one_thread(own: ScorePool):
    own.score(CLEAN, NOISY).result()
    process = Path(f"/proc/{own.pids[0]}")
    assert "jax" not in (process / "maps").read_text()
    assert len(list((process / "task").iterdir())) == 1


@linux
def test_closing_is_quick_with_work_pending_and_leaves_nothing():
    pool = ScorePool(2, time_limit=60)
    pids = pool.pids
    threads = [t for t in pool._threads if t.is_alive()]
    futures = [pool.score(*LONG) for _ in range(4)]
    assert eventually(lambda: all(busy(pid) for pid in pids))
    began = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - began < 1.0
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(timeout=0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert len(threads) == 2
    assert not any(t.is_alive() for t in threads)
    assert pool.pids == ()
    with pytest.raises(RuntimeError, match="closed"):
        pool.score(CLEAN, NOISY)


@linux
@pytest.mark.parametrize("state", ["idle", "stopped", "busy"])
@pytest.mark.subprocess
def test_no_worker_outlives_a_parent_that_is_killed(state: str):
    # Four minutes of audio: 4 s of work on an idle core, in which the worker does not look at its socket.
    program = (
        "import time, numpy as np; from cmgan_jax.metrics.scoring_pool import ScorePool\n"
        "noise = np.random.default_rng(0).normal(size=240 * 16_000).astype(np.float32)\n"
        "pool = ScorePool(1, time_limit=60)\n"
        f"future = pool.score(noise, noise) if {state == 'busy'} else None\n"
        "print(*pool.pids, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        (pid,) = (int(pid) for pid in parent.stdout.readline().split())
        assert alive(pid)
        if state == "stopped":
            os.kill(pid, signal.SIGSTOP)
        if state == "busy":
            assert eventually(lambda: busy(pid))
            time.sleep(0.5)  # beyond its reading of the request
        parent.kill()
    assert eventually(lambda: not alive(pid), 2)


def test_a_worker_ends_with_its_socket(tmp_path: Path):
    # The way out where the kernel has no parent-death signal. Started from elsewhere, as from a run's folder.
    command = [sys.executable, "-P", scoring_worker.__file__, str(os.getpid()), "0"]
    ours, theirs = scoring_pool.socket.socketpair()
    with ours, theirs:
        worker = subprocess.Popen(command, stdin=theirs.fileno(), cwd=tmp_path)
        theirs.close()
        assert ours.recv(64) == scoring_worker.reply("ok", 0.0)
        ours.sendall(scoring_worker.REQUEST.pack(RATE, 1, 100))  # and goes away in the middle of a request
        ours.close()
        assert worker.wait(timeout=10) == 0


def break_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    program = tmp_path / "worker.py"
    program.write_text(text)
    monkeypatch.setattr(scoring_worker, "__file__", str(program))


@pytest.mark.parametrize(
    ("text", "reason", "limit"),
    [
        ("raise SystemExit(3)", "pip install pesq", 60.0),
        ("raise SystemExit(7)", "status 7", 60.0),
        # Only this one waits for the limit; a busy machine may take seconds to start the others.
        ("input()", "nothing came", 1.0),
    ],
)
def test_workers_that_do_not_start_are_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, reason: str, limit: float
):
    break_workers(monkeypatch, tmp_path, text)
    monkeypatch.setattr(scoring_pool, "START_LIMIT", limit)
    with pytest.raises(UserError, match=reason):
        ScorePool(2, time_limit=1)


def test_a_program_that_cannot_be_run_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(UserError, match="/nowhere/python"):
        ScorePool(1, time_limit=1)


def test_attempts_to_replace_workers_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(scoring_pool, "PAUSES", (0.0, 0.01, 0.02))
    with ScorePool(2, time_limit=30) as pool:
        starts = tmp_path / "starts"
        break_workers(monkeypatch, tmp_path, f"open({str(starts)!r}, 'a').write('x')")
        pids = pool.pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        futures = [pool.score(CLEAN, NOISY) for _ in range(6)]
        # Each of the two threads loses the one score it found out by; no other waits for ever.
        for future in futures[:2]:
            assert future.result().failure is Failure.worker_crash
        for future in futures[2:]:
            with pytest.raises(UserError, match="does not start"):
                future.result(timeout=20)
        with pytest.raises(UserError, match="does not start"):
            pool.score(CLEAN, NOISY).result(timeout=0)
        assert starts.read_text() == "x" * 2 * len(scoring_pool.PAUSES)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"workers": 0}, "at least 1"),
        ({"time_limit": 0.0}, "must be positive"),
        ({"sample_rate": 44_100}, "44100 Hz"),
        ({"sample_rate": 8_000}, "wb needs 16000 Hz"),
    ],
)
def test_numbers_that_cannot_work_are_refused(numbers: dict, message: str):
    with pytest.raises(UserError, match=message):
        ScorePool(**{"workers": 1, "time_limit": 1.0} | numbers)


def test_shapes_that_do_not_match_are_refused(pool: ScorePool):
    with pytest.raises(ValueError, match="estimate has shape"):
        pool.score(CLEAN, NOISY[1:])
    with pytest.raises(ValueError, match=r"clean has shape .* expected \[B, S\]"):
        pool.score_batch(CLEAN, NOISY)
