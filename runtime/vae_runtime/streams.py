"""Work without end, batch by batch: in order, with all threads, and never more than a batch ahead.

While the one who takes the batches is busy with one, helpers already work on the next, and stop there. A stream
that nobody takes from any more therefore comes to rest by itself, whatever becomes of it: threads do not wait
here for work, they end when there is none.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from vae_runtime.helpers import Helpers, raise_first

Result = TypeVar("Result")

_MOST_HELPERS = 1024  # more than any machine has processors
_AHEAD = 1  # batches, besides the one that is waited for


class Batch(Generic[Result]):
    """Some work in pieces, and what it makes."""

    def __init__(self, result: Result, total: int, work: Callable[[slice], None], *, chunk: int) -> None:
        """Plan the work.

        Args:
            result: what the pieces are written into.
            total: how much work there is.
            work: does the piece of it that a slice of `range(total)` says; doing one twice does no harm.
            chunk: how much a piece is.
        """
        self.result = result
        self._work = work
        self._to_do = {start: slice(start, min(start + chunk, total)) for start in range(0, total, chunk)}
        self._failed: dict[int, BaseException] = {}
        self.begin()

    def begin(self) -> list[slice]:
        """Return the pieces that are not done, including those that were begun by threads that are no more."""
        self._process, self._at_the_end = os.getpid(), sys.is_finalizing()
        # Not an Event: an interruption inside of its own lock leaves that taken.
        self._ended = threading.Lock()
        self._ended.acquire()
        return list(self._to_do.values())

    @property
    def was_begun_here(self) -> bool:
        """Whether this process began it, not the one that this was forked from, and still has its threads."""
        return self._process == os.getpid() and self._at_the_end == sys.is_finalizing()

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left to do."""
        return not self._to_do

    def do(self, piece: slice) -> None:
        """Do one piece. After the first that failed the others are left out."""
        try:
            if not self._failed:
                self._work(piece)
        except BaseException as error:  # noqa: BLE001 - raised by `take`, in the thread that waits for the batch
            self._failed[piece.start] = error
        self._to_do.pop(piece.start, None)
        if not self._to_do:
            try:
                self._ended.release()
            except RuntimeError as error:  # two threads did the last two pieces, and both saw it
                if "lock" not in str(error):  # but of a signal handler that ran in the midst of it
                    raise

    def wait(self) -> None:
        """Wait until others have done what they have begun."""
        if self._to_do:
            self._ended.acquire()

    def take(self) -> Result:
        """Return the result of a batch that is done, or raise the first error in the order of its pieces."""
        if self._failed:
            raise_first(self._failed)
        return self.result

    def forget(self) -> None:
        """Let go of the errors of a batch that nobody will take."""
        self._failed.clear()


def in_order(batches: Iterable[Batch[Result]], *, threads: int) -> Iterator[Result]:
    """Do the work of batches with up to `threads` threads, the calling one among them, and give what they make.

    Of `batches` no more is taken than what is worked on: with one thread the batch that is asked for, with several
    one more. The first error ends it. Closed, or forgotten, it leaves no thread behind. A process that is forked in
    between goes on by itself.
    """
    crew = _Crew(threads - 1)
    under_way: deque[Batch[Result]] = deque()
    failed: Exception | None = None
    coming = iter(batches)
    try:
        while True:
            try:
                batch = next(coming, None)
            except Exception as error:  # noqa: BLE001 - raised below, after what came before it
                failed = error
                break
            if batch is None:
                break
            under_way.append(batch)
            crew.begin(batch)
            del batch
            if len(under_way) > (_AHEAD if threads > 1 else 0):
                yield crew.finish(under_way)
        while under_way:
            yield crew.finish(under_way)
        if failed is not None:
            raise failed
    finally:
        failed = None
        crew.dismiss()
        for left in under_way:
            left.forget()


class _Crew:
    """Threads that work off pieces in the order in which they came, and end when there are none."""

    def __init__(self, helpers: int) -> None:
        self._most = helpers
        self._helpers = Helpers()
        self._start_anew()

    def _start_anew(self) -> None:
        self._waiting: deque[tuple[Batch[Any], slice]] = deque()
        # There is no lock here: single operations on a deque are atomic.
        self._free = deque(range(min(self._most, _MOST_HELPERS)))
        """A place for each helper that is not at work."""

    def begin(self, batch: Batch[Any]) -> None:
        """Let helpers work on a batch."""
        pieces = batch.begin()
        self._waiting.extend((batch, piece) for piece in pieces)
        for _ in pieces:
            try:
                place = self._free.pop()
            except IndexError:
                break
            if not self._helpers.begin(self._work_off, place):
                self._free.append(place)
                break

    def finish(self, under_way: deque[Batch[Result]]) -> Result:
        """Work until the first of the batches is done, and take it."""
        first = under_way[0]
        while not first.is_done:
            if not all(batch.was_begun_here for batch in under_way):
                # The helpers, and what they had begun, have stayed with the process that this was forked from, or the
                # interpreter, which is being taken apart, has stopped them.
                self._start_anew()
                for batch in under_way:
                    self.begin(batch)
            if not self._do_one():
                first.wait()
        return under_way.popleft().take()

    def dismiss(self) -> None:
        """Leave out what is waiting, and wait for what is being done."""
        self._waiting.clear()
        self._helpers.wait()

    def _work_off(self, place: int) -> None:
        # At the interpreter's end nobody will take what is ahead.
        while threading.main_thread().is_alive():
            if self._do_one():
                continue
            self._free.append(place)
            # Work that came after that look, and before the place was free, is nobody else's.
            if not self._waiting:
                return
            try:
                place = self._free.pop()
            except IndexError:
                return

    def _do_one(self) -> bool:
        try:
            batch, piece = self._waiting.popleft()
        except IndexError:
            return False
        batch.do(piece)
        return True
