"""Signals: the first is noted, the second acts, and afterwards all is as before."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from vae_training.interruption import Interrupted, SignalWatch

WATCHED = (signal.SIGINT, signal.SIGTERM)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in WATCHED]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_noted_and_nothing_is_interrupted(number: signal.Signals, code: int) -> None:
    with SignalWatch() as watch:
        assert (watch.received, watch.exit_code) == (None, 0)
        os.kill(os.getpid(), number)
        assert (watch.received, watch.exit_code) == (number, code)


def test_the_second_signal_acts_at_once() -> None:
    def interrupt_twice(watch: SignalWatch) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.received == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)

    with SignalWatch() as watch, pytest.raises(KeyboardInterrupt):
        interrupt_twice(watch)


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = handlers()
    with SignalWatch():
        assert handlers() != before
    assert handlers() == before
    with pytest.raises(ZeroDivisionError), SignalWatch():
        raise ZeroDivisionError
    assert handlers() == before


def test_in_another_thread_nothing_is_watched_and_nothing_breaks() -> None:
    before, seen = handlers(), []

    def watch() -> None:
        with SignalWatch() as watching:
            seen.append((watching.received, handlers()))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


def test_the_error_carries_the_exit_code() -> None:
    assert Interrupted("stopped", 130).exit_code == 130
