"""Large requests in pieces."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_runtime.chunks import for_each_chunk


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


@pytest.mark.parametrize(("total", "threads"), [(3, 4), (8, 1)])
def test_one_piece_or_one_thread_needs_no_other_thread(total: int, threads: int) -> None:
    workers = set()
    for_each_chunk(total, lambda _: workers.add(threading.current_thread()), chunk=4, threads=threads)
    assert workers == {threading.current_thread()}


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


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    for_each_chunk(20, lambda _: None, chunk=1, threads=4)
    assert threading.active_count() == before
