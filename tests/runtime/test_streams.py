"""Work without end: in order, with all threads, a batch ahead and no more, and nothing left behind."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import sys
import threading
import time
import weakref
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from counted_threads import thread_count, wait_until
from hypothesis import given
from hypothesis import strategies as st
from systems import needs_fork

from vae_runtime import helpers
from vae_runtime.streams import Batch, _Crew, in_order

Squares = list[int]

needs_timer = pytest.mark.skipif(sys.platform == "win32", reason="this system has no interval timer")


def squares(
    first: int, count: int, chunk: int = 2, work: Callable[[int], None] = lambda _: None
) -> Batch[Squares]:
    """The squares of so many whole numbers; `work` is called with each number on the way."""
    made = [-1] * count

    def do(piece: slice) -> None:
        for index in range(piece.start, piece.stop):
            work(first + index)
            made[index] = (first + index) ** 2

    return Batch(made, count, do, chunk=chunk)


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = thread_count()
    yield
    wait_until(lambda: thread_count() == before)


@given(sizes=st.lists(st.integers(0, 9), max_size=6), chunk=st.integers(1, 4), threads=st.integers(1, 4))
def test_all_is_done_once_and_given_in_order(sizes: list[int], chunk: int, threads: int) -> None:
    seen: list[int] = []
    firsts = [0, *itertools.accumulate(sizes)]
    batches = (squares(first, size, chunk, seen.append) for first, size in zip(firsts, sizes, strict=False))
    given_back = list(in_order(batches, threads=threads))
    assert [len(batch) for batch in given_back] == sizes
    assert list(itertools.chain(*given_back)) == [number**2 for number in range(sum(sizes))]
    assert sorted(seen) == list(range(sum(sizes)))


def test_a_piece_that_is_done_twice_does_no_harm() -> None:
    """As one that was begun before a fork, or the last two by two threads at the same moment."""
    batch = squares(0, 4)
    for piece in [*batch.begin(), slice(2, 4), slice(0, 2)]:
        batch.do(piece)
    batch.wait()
    assert batch.take() == [0, 1, 4, 9]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_threads_work_than_were_asked_for_and_all_of_them_do(threads: int) -> None:
    at_work: set[int] = set()
    most, workers = [0], set()
    together = threading.Barrier(threads)

    def work(number: int) -> None:
        at_work.add(threading.get_ident())
        workers.add(threading.get_ident())
        if number < threads:
            together.wait(30)
        most[0] = max(most[0], len(at_work))
        at_work.remove(threading.get_ident())

    list(in_order((squares(10 * k, 10, 1, work) for k in range(5)), threads=threads))
    assert most == [threads]
    assert threading.get_ident() in workers


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (2, 1), (4, 1)])
def test_of_a_slow_taker_it_comes_to_rest_a_batch_ahead(threads: int, ahead: int) -> None:
    begun: list[int] = []
    before = thread_count()

    def batches() -> Iterator[Batch[Squares]]:
        for k in itertools.count():
            begun.append(k)
            yield squares(10 * k, 10)

    stream = in_order(batches(), threads=threads)
    assert begun == []
    for taken in range(1, 6):
        next(stream)
        wait_until(lambda: thread_count() == before)
        assert begun == list(range(taken + ahead))


def test_while_one_batch_is_taken_the_next_is_made() -> None:
    done = threading.Event()
    stream = in_order(
        (squares(10 * k, 1, 1, lambda number: done.set() if number == 10 else None) for k in range(3)),
        threads=2,
    )
    next(stream)
    assert done.wait(30)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_comes_after_what_came_before_it_and_ends_the_stream(threads: int) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        if number in (23, 25, 31):
            raise ValueError(f"number {number}")

    stream = in_order((squares(10 * k, 10, 1, work) for k in itertools.count()), threads=threads)
    assert [len(next(stream)), len(next(stream))] == [10, 10]
    with pytest.raises(ValueError, match="number 23"):
        next(stream)
    assert next(stream, None) is None
    assert max(done) < 50


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_what_comes_in_is_raised_after_what_came_before_it(threads: int) -> None:
    def batches() -> Iterator[Batch[Squares]]:
        yield squares(0, 3)
        yield squares(3, 3)
        raise LookupError("no more to be had")

    stream = in_order(batches(), threads=threads)
    assert [next(stream), next(stream)] == [[0, 1, 4], [9, 16, 25]]
    with pytest.raises(LookupError, match="no more to be had"):
        next(stream)
    assert next(stream, None) is None


@pytest.mark.parametrize("end", ["close", "forget", "error in the loop"])
def test_ended_early_it_leaves_the_rest_out_and_no_thread(end: str) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        time.sleep(0.001)

    def batches() -> Iterator[Batch[Squares]]:
        for k in range(2):
            yield squares(k, 1, 1, work)
        yield squares(2, 100_000, 1, work)

    stream = in_order(batches(), threads=3)
    next(stream)
    if end == "close":
        stream.close()
    elif end == "forget":
        del stream
    elif end == "error in the loop":
        with contextlib.suppress(ZeroDivisionError):
            for _ in stream:
                raise ZeroDivisionError
        del stream
    left_with = len(done)
    time.sleep(0.02)
    assert len(done) == left_with < 10_000


def test_a_helper_may_be_the_one_who_finds_that_a_stream_was_forgotten() -> None:
    """The collector of garbage runs in any thread."""
    given_back, finished = threading.Event(), threading.Event()
    holder: list[Any] = []

    def work(number: int) -> None:
        if number == 10:
            given_back.wait(30)
            holder.clear()
            finished.set()

    holder.append(in_order((squares(10 * k, 1, 1, work) for k in range(3)), threads=2))
    next(holder[0])
    given_back.set()
    assert finished.wait(30)


def test_where_no_thread_can_be_started_the_taker_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    workers = set()
    monkeypatch.setattr(helpers, "start_new_thread", refuse)
    stream = in_order(
        (squares(3 * k, 3, 1, lambda _: workers.add(threading.get_ident())) for k in range(3)), threads=3
    )
    assert [len(batch) for batch in stream] == [3, 3, 3]
    assert workers == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("source", ["the work", "what comes in"])
def test_after_an_error_nothing_of_the_work_is_held(threads: int, source: str) -> None:
    """Without waiting for the collector of cycles."""

    class Array:
        """What is worked on."""

    array: Array | None = Array()
    held = weakref.ref(array)

    def work(number: int, array: object) -> None:
        if source == "the work" and number >= 2:
            raise ValueError(f"number {number} of {array}")

    def batches(array: object) -> Iterator[Batch[Squares]]:
        for k in range(4):
            yield squares(2 * k, 2, 1, functools.partial(work, array=array))
        raise ValueError(f"no more of {array}")

    gc.disable()
    try:
        with pytest.raises(ValueError, match="of <") as refused:
            for _ in in_order(batches(array), threads=threads):
                pass
        del refused, array, _
        assert held() is None
    finally:
        gc.enable()


@needs_timer
def test_an_interruption_ends_it_whenever_it_comes_and_leaves_nothing_locked(run_python: Any) -> None:
    finished = run_python(
        """
import gc, itertools, signal, sys, time
from vae_runtime.streams import Batch, in_order
gc.disable()  # an interruption in a finalizer is lost, whoever's it is
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
ended = 0
until = time.monotonic() + 30
def batches():
    for k in itertools.count():
        yield Batch(k, 30, lambda piece: time.sleep(0.00002), chunk=1)
def take():
    for expected, made in enumerate(in_order(batches(), threads=3)):
        assert made == expected
while ended < 100 and time.monotonic() < until:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + ended * 1e-4, 5)
        take()
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        ended += 1
def threads():
    return len(sys._current_frames())
while threads() > 1 and time.monotonic() < until:
    time.sleep(0.01)
print(ended, threads())
""",
        timeout=90,
    )
    assert (finished.returncode, finished.stderr, finished.stdout) == (0, "", "100 1\n")


def test_work_that_comes_while_a_helper_is_about_to_leave_is_done_by_it() -> None:
    """Nobody else would begin it before the taker comes back."""
    crew = _Crew(1)
    late = squares(0, 3)
    real = crew._do_one

    def find_nothing() -> bool:
        crew._do_one = real  # type: ignore[method-assign]
        crew.begin(late)
        return False

    place = crew._free.pop()
    crew._do_one = find_nothing  # type: ignore[method-assign]
    crew._work_off(place)
    assert late.is_done
    assert list(crew._free) == [place]


def test_a_thread_that_could_not_be_started_once_is_started_for_the_next_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, refused = start_new_thread, []

    def start(run: Callable[[], None], arguments: tuple[()]) -> int:
        if not refused:
            refused.append(run)
            raise RuntimeError("can't start new thread")
        return real(run, arguments)

    monkeypatch.setattr(helpers, "start_new_thread", start)
    workers = set()
    together = threading.Barrier(2)

    def work(number: int) -> None:
        workers.add(threading.get_ident())
        if number >= 20:
            together.wait(30)

    assert len(list(in_order((squares(10 * k, 2, 1, work) for k in range(3)), threads=2))) == 3
    assert len(workers) >= 2  # a helper that had nothing to do was replaced by another


@needs_fork
def test_a_forked_child_has_helpers_of_its_own(run_python: Any) -> None:
    finished = run_python(
        """
import itertools, os, sys, threading, time
from vae_runtime.streams import Batch, in_order
workers = set()
def work(piece):
    workers.add(threading.get_ident())
    time.sleep(0.02)
stream = in_order((Batch(k, 4, work, chunk=1) for k in itertools.count()), threads=2)
next(stream)
child = os.fork()
workers.clear()
taken = [next(stream) for _ in range(3)]
if child == 0:
    sys.exit(0 if len(workers) == 2 and taken == [1, 2, 3] else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
""",
        flags=("-W", "ignore"),  # from 3.12 on Python advises against forks beside threads
    )
    assert (finished.returncode, finished.stderr) == (0, "")
