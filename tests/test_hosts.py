"""What hosts tell each other, tried with threads that play them: each expected value is what a single host has."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from cmgan_jax.errors import UserError
from cmgan_jax.metrics.pesq_score import Failure, Score, failed
from cmgan_jax.training.hosts import ALONE, NO_REQUESTS, Hosts, Requests
from cmgan_jax.training.launch import _refuse_apart
from cmgan_jax.training.score_targets import PendingTargets


class Board:
    """Where the threads lay their arrays side by side."""

    def __init__(self, count: int):
        self.laid: list[Any] = [None] * count
        self.all_here = threading.Barrier(count, timeout=20)


@dataclass(frozen=True)
class Threads(Hosts):
    """A host that is a thread."""

    board: Board = Board(1)  # noqa: RUF009

    def exchange(self, array: np.ndarray) -> np.ndarray:
        self.board.laid[self.index] = np.array(array)
        self.board.all_here.wait()
        told = np.stack(self.board.laid)
        self.board.all_here.wait()
        return told


def together(work: Callable[[Hosts], Any], count: int = 2) -> list[Any]:
    """What the work returns, or raises, on each of the hosts."""
    board = Board(count)

    def attempt(index: int) -> Any:
        try:
            return work(Threads(index, count, board))
        except (UserError, OSError) as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(attempt, range(count)))


def test_one_host_speaks_with_itself():
    assert (ALONE.first, ALONE.tell("word"), ALONE.from_first(lambda: 3)) == (True, ["word"], 3)
    np.testing.assert_array_equal(ALONE.exchange(np.arange(3)), [[0, 1, 2]])
    np.testing.assert_array_equal(ALONE.share(np.arange(3)), [0, 1, 2])


def test_shares_are_the_batch_in_order():
    batch = np.arange(6)
    np.testing.assert_array_equal(np.concatenate([Hosts(index, 3).share(batch) for index in range(3)]), batch)


def test_texts_of_any_length_reach_all():
    texts = ["", "ü" * 70, "no\udc80name"]
    assert together(lambda hosts: hosts.tell(texts[hosts.index]), 3) == [texts] * 3


def test_a_host_that_is_apart_is_named():
    assert together(lambda hosts: hosts.unlike_first("same"), 3) == [[]] * 3
    assert together(lambda hosts: hosts.unlike_first("other" if hosts.index == 1 else "same"), 3) == [[1]] * 3


def test_the_first_host_decides():
    assert together(lambda hosts: hosts.from_first(lambda: {"pesq": 0.1 + hosts.index})) == [{"pesq": 0.1}] * 2


@pytest.mark.parametrize("error", [UserError("no corpus"), OSError(28, "disk full")])
def test_what_fails_on_one_host_ends_all(error: Exception):
    def work(index: int) -> str:
        if index == 1:
            raise error
        return "fine"

    other, own = together(lambda hosts: hosts.agree(lambda: work(hosts.index)))
    assert own is error
    assert isinstance(other, UserError)
    assert str(other) == f"host 1: {error}"


def test_hosts_of_different_runs_do_not_begin():
    def about(devices: int) -> dict[str, Any]:
        return {"config": {"batch": 4}, "devices": devices, "provenance": {"data": {"fingerprint": "f"}}}

    same = together(lambda hosts: _refuse_apart(hosts, about(4), 3))
    apart = together(lambda hosts: _refuse_apart(hosts, about(4 - hosts.index), 3 * hosts.index))
    assert same == [None, None]
    for error in apart:
        assert "host 1 has another number of devices than host 0" in str(error)
        assert "host 1 has another checkpoint to go on from" in str(error)
        assert "config" not in str(error)


def test_any_host_s_signal_stops_all_and_the_first_one_s_clock_saves():
    def exchanged(*asked: Requests) -> list[Requests]:
        return together(lambda hosts: hosts.exchange_requests(asked[hosts.index]), len(asked))

    assert ALONE.exchange_requests(Requests(15, save=True)) == Requests(15, save=True)
    assert exchanged(NO_REQUESTS, NO_REQUESTS) == [NO_REQUESTS] * 2
    assert exchanged(Requests(save=True), Requests(15)) == [Requests(15, save=True)] * 2
    assert exchanged(NO_REQUESTS, Requests(2, save=True), Requests(15, save=True)) == [Requests(15)] * 3


def test_targets_are_those_of_the_global_batch():
    """Of scores that do not fit in 32 bits; two hosts with half each, against one with all."""
    scores = [Score(1.1 + 1e-12, None, 0.0), failed(Failure.timeout), Score(3.3, None, 0.0), failed("no_speech_here")]

    def done(part: list[Score]) -> list[Future[Score]]:
        futures: list[Future[Score]] = [Future() for _ in part]
        for future, score in zip(futures, part, strict=True):
            future.set_result(score)
        return futures

    expected, whole = PendingTargets(done(scores), "mean_fill", True).collect()
    halves = together(
        lambda hosts: PendingTargets(
            done(scores[2 * hosts.index : 2 * hosts.index + 2]), "mean_fill", True, hosts
        ).collect()
    )
    for targets, report in halves:
        for name in ("value", "weight", "valid"):
            np.testing.assert_array_equal(getattr(targets, name), getattr(expected, name))
        np.testing.assert_array_equal(report.scores, whole.scores)
        assert (report.mean, report.failures) == (whole.mean, {"timeout": 1, "no_speech_here": 1})
        # The longest wait, which both know; whose exchange took how long is not in it.
        assert report.waited == halves[0][1].waited
