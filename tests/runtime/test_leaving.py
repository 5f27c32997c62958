"""The interpreter's end and forks wait for calls under way, and nothing in between locks anything up."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import ClosedError, leaving
from vae_runtime.leaving import CallsUnderWay

needs_timer = pytest.mark.skipif(sys.platform == "win32", reason="this system has no interval timer")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> CallsUnderWay:
    monkeypatch.setattr(leaving, "_PATIENCE", 0.01)
    return CallsUnderWay()


class Call:
    """A call in a thread of its own, which ends when it is told to."""

    def __init__(self, calls: CallsUnderWay) -> None:
        self._calls = calls
        self._begun, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        with self._calls:
            self._begun.set()
            self._end.wait(30)

    def begin(self) -> None:
        self._thread.start()
        assert self._begun.wait(30)

    def end(self) -> None:
        self._end.set()
        self._thread.join(30)


@pytest.fixture
def call(calls: CallsUnderWay) -> Iterator[Call]:
    call = Call(calls)
    call.begin()
    yield call
    call.end()


def leaving_thread(calls: CallsUnderWay) -> threading.Thread:
    """A thread that waits for the calls of all others."""
    thread = threading.Thread(target=calls.leave)
    thread.start()
    return thread


def test_who_leaves_waits_for_the_calls_of_other_threads(calls: CallsUnderWay, call: Call) -> None:
    leaver = leaving_thread(calls)
    leaver.join(0.2)
    assert leaver.is_alive()
    call.end()
    leaver.join(30)
    assert not leaver.is_alive()


def test_who_leaves_waits_until_the_outermost_of_nested_calls_ends(calls: CallsUnderWay) -> None:
    """A signal handler that uses a model makes a call inside a call."""
    with calls:
        with calls, calls:
            pass
        leaver = leaving_thread(calls)
        leaver.join(0.2)
        assert leaver.is_alive()
    leaver.join(30)
    assert not leaver.is_alive()


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sleeps between two looks fails."""
    monkeypatch.setattr(leaving, "time", Impatient)


class Impatient:
    monotonic = time.monotonic

    @staticmethod
    def sleep(_: float) -> None:
        pytest.fail("waited for nobody")


def test_who_leaves_does_not_wait_for_itself(calls: CallsUnderWay, no_wait: None) -> None:
    """An interruption between entering a call and being in it leaves the count up."""
    calls.__enter__()
    calls.leave()


def test_no_wait_is_for_ever(calls: CallsUnderWay, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "_LONGEST_WAIT_AT_THE_END", 0.05)
    leaver = leaving_thread(calls)
    leaver.join(30)
    assert not leaver.is_alive()


def test_a_thread_that_comes_late_is_told_so_and_counts_no_more(calls: CallsUnderWay) -> None:
    leaving_thread(calls).join(30)
    for _ in range(2):
        with pytest.raises(ClosedError, match="the interpreter is ending"), calls:
            raise AssertionError("a call began")
    leaver = leaving_thread(calls)
    leaver.join(30)
    assert not leaver.is_alive()


def test_who_leaves_may_call(calls: CallsUnderWay) -> None:
    calls.leave()
    with calls, calls:
        pass


def forking_thread(calls: CallsUnderWay) -> threading.Thread:
    """A thread at the moment before it forks."""
    thread = threading.Thread(target=calls._before_fork)
    thread.start()
    return thread


def test_who_forks_waits_for_the_calls_of_other_threads(calls: CallsUnderWay, call: Call) -> None:
    forker = forking_thread(calls)
    forker.join(0.2)
    assert forker.is_alive()
    call.end()
    forker.join(30)
    assert not forker.is_alive()


def test_no_fork_waits_for_ever(calls: CallsUnderWay, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "_LONGEST_WAIT_BEFORE_A_FORK", 0.05)
    forker = forking_thread(calls)
    forker.join(30)
    assert not forker.is_alive()


def test_a_call_that_comes_during_a_fork_begins_after_it(calls: CallsUnderWay) -> None:
    calls._before_fork()
    late, begun = Call(calls), []
    starter = threading.Thread(target=lambda: begun.append(late.begin()))
    starter.start()
    starter.join(0.2)
    assert not begun
    assert calls._depths.keys() <= {late._thread.ident}
    calls._after_fork()
    starter.join(30)
    assert begun
    late.end()
    assert calls._depths == {}


def test_the_thread_that_forks_may_call_meanwhile(calls: CallsUnderWay, no_wait: None) -> None:
    calls._before_fork()
    with calls:
        calls._before_fork()
    calls._after_fork()


def test_a_call_inside_a_call_does_not_wait_for_a_fork_that_waits_for_it(calls: CallsUnderWay) -> None:
    with calls:
        forker = forking_thread(calls)
        while not calls._halting:
            pass
        with calls:
            assert forker.is_alive()
        assert forker.is_alive()
    forker.join(30)
    assert not forker.is_alive()


def test_a_fork_while_the_interpreter_ends_lets_nobody_in(calls: CallsUnderWay) -> None:
    calls.leave()
    calls._before_fork()
    calls._after_fork()
    told: list[str] = []

    def late() -> None:
        try:
            with calls:
                told.append("began")
        except ClosedError as error:
            told.append(str(error))

    thread = threading.Thread(target=late)
    thread.start()
    thread.join(30)
    assert told == ["the interpreter is ending; expected no more calls of other threads"]


@pytest.mark.parametrize("inside", [False, True])
def test_a_forked_child_keeps_only_its_own_calls(calls: CallsUnderWay, call: Call, inside: bool) -> None:
    if inside:
        calls.__enter__()
    calls._leaving = True
    calls._halting.add(-1)
    calls._after_fork_in_child()
    with calls:  # nothing of the parent's stands in the way
        pass
    leaver = leaving_thread(calls)
    leaver.join(0.2 if inside else 30)
    assert leaver.is_alive() == inside
    if inside:
        calls.__exit__(None, None, None)
        leaver.join(30)
        assert not leaver.is_alive()


# In real processes


def test_a_host_that_waits_for_its_worker_at_the_end_is_not_held_up(
    run_python: Any, gray_bundle: Path
) -> None:
    """What the host registered before us runs after us: its worker must get on, or both wait for ever."""
    finished = run_python(
        """
import atexit, sys, threading, time
def end():
    worker.join(30)
    print("joined" if not worker.is_alive() else "held up")
atexit.register(end)
import vae_runtime, vae_runtime.leaving
vae_runtime.leaving._PATIENCE = 0.1
model = vae_runtime.load(sys.argv[1])
def work():
    try:
        while True:
            model.sample(3)
    except vae_runtime.VaeError as error:
        print("told", "the interpreter is ending" in str(error))
worker = threading.Thread(target=work, daemon=True)
worker.start()
time.sleep(0.05)
""",
        gray_bundle,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == "told True\njoined\n"


@needs_timer
def test_signal_handlers_and_finalizers_may_use_a_model_that_is_in_use(
    run_python: Any, gray_bundle: Path
) -> None:
    """They run in the midst of a call of the same thread, wherever that stands."""
    finished = run_python(
        """
import gc, signal, sys, time, weakref
import numpy as np, vae_runtime
model = vae_runtime.load(sys.argv[1], threads=1)
right, count = model.sample(2, 7), [0, 0]
def use(*_):
    count[0] += 1
    assert np.array_equal(model.sample(2, 7), right)
class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        count[1] += 1
        assert np.array_equal(model.sample(2, 7), right)
gc.set_threshold(5)
signal.signal(signal.SIGALRM, use)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
until = time.monotonic() + 30
while min(count) < 300 and time.monotonic() < until:
    Cycle()
    assert np.array_equal(model.sample(2, 7), right)
signal.setitimer(signal.ITIMER_REAL, 0)
print(min(count) >= 300)
""",
        gray_bundle,
    )
    assert (finished.returncode, finished.stderr, finished.stdout) == (0, "", "True\n")


@needs_timer
def test_an_interruption_anywhere_leaves_nothing_locked(run_python: Any, gray_bundle: Path) -> None:
    finished = run_python(
        """
import signal, sys, time
import numpy as np, vae_runtime
model = vae_runtime.load(sys.argv[1], threads=1)
right, interrupted = model.sample(2, 7), 0
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
until = time.monotonic() + 30
while interrupted < 500 and time.monotonic() < until:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00005 + interrupted * 1e-6, 0.1)  # again, if a finalizer swallows it
        while True:
            model.sample(2)
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        interrupted += 1
assert np.array_equal(model.sample(2, 7), right)
print(interrupted)
""",
        gray_bundle,
    )
    assert (finished.returncode, finished.stderr, finished.stdout) == (0, "", "500\n")
