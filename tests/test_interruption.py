"""Signals ask a run to save and leave."""

import signal

import pytest

from cmgan_jax.training.interruption import Interruption

BOTH = (signal.SIGINT, signal.SIGTERM)
ALL = (*BOTH, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


@pytest.mark.parametrize("number", ALL)
def test_the_first_signal_is_noted(number: signal.Signals) -> None:
    with Interruption() as interruption:
        assert interruption.signal is None
        signal.raise_signal(number)
        assert interruption.signal is number


@pytest.mark.parametrize("first", BOTH)
def test_ctrl_c_after_a_signal_does_not_wait(first: signal.Signals) -> None:
    with Interruption() as interruption:
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert interruption.signal is first


def test_a_second_sigterm_does_wait() -> None:
    """A scheduler may send it again while the checkpoint is being written."""
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert interruption.signal is signal.SIGTERM


def test_handlers_are_as_before_also_after_an_error() -> None:
    before = [signal.getsignal(number) for number in ALL]

    def fail() -> None:
        with Interruption():
            assert [signal.getsignal(number) for number in ALL] != before
            raise ValueError("a step failed")

    with pytest.raises(ValueError, match="a step failed"):
        fail()
    assert [signal.getsignal(number) for number in ALL] == before
