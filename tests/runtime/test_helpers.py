"""Helpers are waited for whatever happened to their beginning, and those that have not begun are not."""

from __future__ import annotations

import threading
import time
from _thread import start_new_thread
from collections.abc import Callable
from typing import Any

import pytest
from counted_threads import thread_count, wait_until
from systems import needs_fork

from vae_runtime import helpers
from vae_runtime.helpers import Helpers


def test_all_that_have_begun_have_ended_after_waiting() -> None:
    begun, done = threading.Barrier(6, timeout=30), []

    def work(number: int) -> None:
        begun.wait()
        time.sleep(0.01)
        done.append(number)

    crew, before = Helpers(), thread_count()
    assert all(crew.begin(work, number) for number in range(5))
    begun.wait()
    crew.wait()
    assert sorted(done) == [0, 1, 2, 3, 4]
    wait_until(lambda: thread_count() == before)


def test_a_thread_whose_start_was_interrupted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, done = threading.Event(), []

    def work() -> None:
        begun.set()
        time.sleep(0.1)
        done.append(True)

    def interrupted(run: Callable[[], None], arguments: tuple[()]) -> int:
        start_new_thread(run, arguments)
        begun.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(helpers, "start_new_thread", interrupted)
    crew = Helpers()
    with pytest.raises(KeyboardInterrupt):
        crew.begin(work)
    crew.wait()
    assert done == [True]


def test_a_thread_that_was_never_made_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(helpers, "start_new_thread", never)
    crew = Helpers()
    with pytest.raises(KeyboardInterrupt):
        crew.begin(print)
    crew.wait()
    helpers._before_fork()  # waits for a moment, and then never again
    assert not helpers._not_begun


def test_a_thread_that_comes_late_leaves_its_work_out(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[Callable[[], None]] = []
    monkeypatch.setattr(helpers, "start_new_thread", lambda run, _: late.append(run))
    crew, done = Helpers(), []
    assert crew.begin(done.append, True)
    crew.wait()
    assert len(helpers._not_begun) == 1
    late[0]()
    assert not done
    assert not helpers._not_begun


def test_where_no_thread_can_be_started_it_says_so_and_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_more(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helpers, "start_new_thread", no_more)
    crew = Helpers()
    assert not crew.begin(print)
    crew.wait()
    assert not helpers._not_begun


def test_an_error_of_a_signal_handler_is_not_taken_for_a_limit_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def time_is_up(*_: object) -> int:
        raise RuntimeError("time is up")

    monkeypatch.setattr(helpers, "start_new_thread", time_is_up)
    with pytest.raises(RuntimeError, match="time is up"):
        Helpers().begin(print)
    helpers._not_begun.clear()


def test_a_thread_does_not_wait_for_itself() -> None:
    """A stream that is forgotten is closed by whoever notices, which may be its own helper."""
    crew, waited = Helpers(), threading.Event()

    def work() -> None:
        crew.wait()
        waited.set()

    crew.begin(work)
    assert waited.wait(30)


@needs_fork
@pytest.mark.parametrize("what", ["late", "at work"])
def test_a_fork_meets_no_thread_without_work_and_its_child_waits_for_none(run_python: Any, what: str) -> None:
    """From 3.12 on Python warns of a fork beside other threads; here that would be an error."""
    finished = run_python(
        """
import os, sys, threading, time
from _thread import start_new_thread
from vae_runtime import helpers
late = sys.argv[1] == "late"
go, begun = threading.Event(), threading.Event()
def slowly(run, arguments):
    def first_step():
        time.sleep(0.05)
        run()
    return start_new_thread(first_step, ())
def work():
    begun.set()
    go.wait()
if late:
    helpers.start_new_thread = slowly
crew = helpers.Helpers()
crew.begin(work)
if late:
    crew.wait()
else:
    begun.wait()
child = os.fork()
if child == 0:
    crew.wait()
    os._exit(7)
go.set()
crew.wait()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        what,
        flags=("-W", "error" if what == "late" else "ignore"),
        timeout=60,
    )
    assert (finished.returncode, finished.stderr, finished.stdout) == (0, "", "7\n")


# At the interpreter's end


def test_the_interpreter_does_not_end_before_a_late_thread_has_begun(run_python: Any) -> None:
    """Longer than a fork waits: a thread that begins afterwards writes to memory that was given back."""
    finished = run_python(
        """
import atexit, time
from _thread import start_new_thread
atexit.register(lambda: print(len(helpers._not_begun)))  # after those that are registered later
from vae_runtime import helpers
def slowly(run, arguments):
    def first_step():
        time.sleep(0.6)
        run()
    return start_new_thread(first_step, ())
helpers.start_new_thread = slowly
crew = helpers.Helpers()
assert crew.begin(print, "too late")
crew.wait()
print(len(helpers._not_begun))
"""
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "1\n0\n", "")


def test_a_thread_that_was_never_made_holds_up_the_end_for_a_moment_only(run_python: Any) -> None:
    finished = run_python(
        """
from vae_runtime import helpers
def never(*_):
    raise KeyboardInterrupt
helpers.start_new_thread = never
helpers._LONGEST_WAIT_AT_THE_END = 1e6  # as long as a thread that was made is waited for
try:
    helpers.Helpers().begin(print)
except KeyboardInterrupt:
    print(len(helpers._not_begun))
"""
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "1\n", "")


def test_processes_end_cleanly_right_after_calling_threads_off(run_python: Any) -> None:
    """Where nobody waits, half of such processes of Python 3.10 die of a segmentation fault."""
    code = """
from vae_runtime.helpers import Helpers
crew = Helpers()
for _ in range(4):
    crew.begin(print)
crew.wait()
"""
    for _ in range(10):
        finished = run_python(code, flags=("-X", "dev"))
        assert (finished.returncode, finished.stderr) == (0, "")
