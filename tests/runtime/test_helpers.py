"""Helpers are waited for whatever happened to their beginning."""

from __future__ import annotations

import threading
import time

import pytest

from vae_runtime import helpers
from vae_runtime.helpers import Helpers


class InterruptedStart(threading.Thread):
    """Ctrl-C comes when the system has made the thread, and before it has taken its first step."""

    def start(self) -> None:
        def interrupt(*_: object) -> bool:
            raise KeyboardInterrupt

        self._started.wait = interrupt  # type: ignore[attr-defined,method-assign]  # where a start waits
        super().start()


def test_a_thread_whose_start_was_interrupted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before, done = threading.active_count(), []

    def work() -> None:
        time.sleep(0.1)
        done.append(True)

    monkeypatch.setattr(helpers.threading, "Thread", InterruptedStart)
    crew = Helpers()
    with pytest.raises(KeyboardInterrupt):
        crew.begin(work, name="interrupted")
    crew.wait()
    assert done == [True]
    assert threading.active_count() == before


def test_a_thread_that_never_begins_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(threading.Thread):
        def start(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(helpers.threading, "Thread", Never)
    crew = Helpers()
    with pytest.raises(KeyboardInterrupt):
        crew.begin(print, name="never")
    began = time.monotonic()
    crew.wait()
    assert time.monotonic() - began < 10  # and not for ever


def test_where_no_thread_can_be_started_it_says_so_and_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoMore(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helpers.threading, "Thread", NoMore)
    monkeypatch.setattr(helpers, "_wait_for_its_first_step", lambda _: pytest.fail("waits"))
    crew = Helpers()
    assert not crew.begin(print, name="no more")
    crew.wait()


def test_all_that_have_begun_have_ended_after_waiting() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    crew = Helpers()
    assert all(crew.begin(work, number, name=str(number)) for number in range(5))
    crew.wait()
    assert sorted(done) == [0, 1, 2, 3, 4]
