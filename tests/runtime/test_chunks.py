"""Large requests in pieces."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from counted_threads import thread_count, wait_until
from hypothesis import given
from hypothesis import strategies as st

from vae_runtime import helpers
from vae_runtime.chunks import CHUNK, chunk_size, encoder_chunk_size, for_each_chunk


@given(total=st.integers(0, 60), chunk=st.integers(1, 20), threads=st.integers(1, 4))
def test_the_pieces_cover_everything_once_and_in_order(total: int, chunk: int, threads: int) -> None:
    seen: list[slice] = []
    for_each_chunk(total, seen.append, chunk=chunk, threads=threads)
    seen.sort(key=lambda piece: piece.start)
    assert [index for piece in seen for index in range(piece.start, piece.stop)] == list(range(total))
    assert all(0 < piece.stop - piece.start <= chunk for piece in seen)


def test_as_many_threads_work_as_were_asked_for() -> None:
    both_there = threading.Barrier(2, timeout=30)
    for_each_chunk(2, lambda _: both_there.wait() and None, chunk=1, threads=2)


@given(
    shape=st.tuples(st.sampled_from([1, 3]), st.integers(1, 300), st.integers(1, 300)), on_gpu=st.booleans()
)
def test_a_chunk_holds_a_bounded_number_of_images_and_of_pixels(
    shape: tuple[int, int, int], on_gpu: bool
) -> None:
    chunk, most = chunk_size(shape, on_gpu=on_gpu), CHUNK * (64 if on_gpu else 1)
    pixels, most_pixels = shape[0] * shape[1] * shape[2], most * 24 * 24
    assert 1 <= chunk <= most
    assert chunk * pixels <= max(pixels, most_pixels)
    assert chunk == most or 2 * chunk * pixels > most_pixels, "there is room for more"
    assert most % chunk == 0


def test_faces_of_24x24_go_64_at_a_time_and_larger_ones_fewer() -> None:
    shapes = [(1, 16, 16), (1, 24, 24), (1, 64, 64), (3, 128, 128)]
    chunks = [chunk_size(shape, on_gpu=False) for shape in shapes]
    assert chunks == [64, 64, 8, 1]
    assert [encoder_chunk_size(chunk, on_gpu=False) for chunk in chunks] == [32, 32, 4, 1]
    assert encoder_chunk_size(4096, on_gpu=True) == 4096


@pytest.mark.parametrize(("total", "threads"), [(3, 4), (8, 1)])
def test_one_piece_or_one_thread_needs_no_other_thread(total: int, threads: int) -> None:
    workers = set()
    for_each_chunk(total, lambda _: workers.add(threading.get_ident()), chunk=4, threads=threads)
    assert workers == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_is_raised_and_later_pieces_are_left_out(threads: int) -> None:
    done: list[int] = []

    def work(piece: slice) -> None:
        done.append(piece.start)
        if piece.start >= 3:
            raise ValueError(f"piece {piece.start}")

    with pytest.raises(ValueError, match="piece 3"):
        for_each_chunk(10_000, work, chunk=1, threads=threads)
    assert len(done) < 10_000


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no interval timer")
def test_an_interruption_leaves_the_rest_out_whenever_it_comes(run_python: Any) -> None:
    """Handing over takes some tenths of a second here, so most of these come in its midst."""
    finished = run_python(
        """
import gc, signal, time
from vae_runtime.chunks import CHUNK, chunk_size, for_each_chunk
gc.disable()  # an interruption in a finalizer is lost, whoever's it is
def interrupt(*_):
    raise KeyboardInterrupt
def work(piece):
    done.append(piece)
    time.sleep(0.001)
signal.signal(signal.SIGALRM, interrupt)
for delay in (0.0005, 0.002, 0.01, 0.1):
    done = []
    try:
        signal.setitimer(signal.ITIMER_REAL, delay, 2)
        for_each_chunk(20_000, work, chunk=1, threads=2)
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(len(done) < 1_000)
"""
    )
    assert (finished.returncode, finished.stderr, finished.stdout) == (0, "", 4 * "True\n")


def test_where_no_thread_can_be_started_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helpers, "start_new_thread", refuse)
    seen: list[tuple[int, int]] = []
    for_each_chunk(7, lambda piece: seen.append((piece.start, threading.get_ident())), chunk=2, threads=3)
    assert seen == [(start, threading.get_ident()) for start in (0, 2, 4, 6)]


def test_no_thread_is_left_behind() -> None:
    before = thread_count()
    for_each_chunk(20, lambda _: None, chunk=1, threads=4)
    wait_until(lambda: thread_count() == before)


def test_what_is_done_is_given_back_though_a_thread_has_not_come_to_its_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late: list[Callable[[], None]] = []
    monkeypatch.setattr(helpers, "start_new_thread", lambda run, _: late.append(run))
    seen: list[slice] = []
    for_each_chunk(3, seen.append, chunk=1, threads=3)
    assert len(seen) == 3
    for run in late:
        run()
    assert len(seen) == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_after_an_error_nothing_of_the_request_is_held(threads: int) -> None:
    """Without waiting for the collector of cycles."""

    class Array:
        """What a request works on."""

    array: Array | None = Array()
    held = weakref.ref(array)

    def work(piece: slice, array: object) -> None:
        raise ValueError(f"piece {piece.start} of {array}")

    gc.disable()
    try:
        with pytest.raises(ValueError, match="piece") as refused:
            for_each_chunk(10, functools.partial(work, array=array), chunk=1, threads=threads)
        del refused, array
        assert held() is None
    finally:
        gc.enable()
