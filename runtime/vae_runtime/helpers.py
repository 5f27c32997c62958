"""Threads that help with one request: begun, and waited for, also where Ctrl-C comes while one is beginning.

Not a ThreadPoolExecutor: Ctrl-C inside of its own locks leaves them taken, and its threads wait for ever. Nor a
threading.Thread: its start waits for the thread's first step, which takes as long as decoding ten images, and an
interruption in that wait leaves a thread that cannot be joined.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from typing import NoReturn

from vae_runtime.waiting import wait_while

_LONGEST_WAIT_BEFORE_A_FORK = 0.25  # seconds
_LONGEST_WAIT_AT_THE_END = 5.0  # seconds; far more than a thread takes to begin on a busy machine


class Helpers:
    """The threads of one request."""

    def __init__(self) -> None:
        self._helpers: list[_Helper] = []

    def begin(self, work: Callable[..., None], *arguments: object) -> bool:
        """Start a thread on some work; False where none can be started, at a limit or at the interpreter's very end."""
        if sys.is_finalizing():
            return False
        self._helpers = [helper for helper in self._helpers if not helper.has_ended]
        helper = _Helper(work, arguments)
        self._helpers.append(helper)
        _not_begun.add(helper)
        try:
            start_new_thread(helper.run, ())
        except RuntimeError as error:
            if "thread" not in str(error):  # but of a signal handler that ran when the thread was made
                raise
            self._helpers.remove(helper)
            _not_begun.discard(helper)
            return False
        helper.was_made = True
        return True

    def wait(self) -> None:
        """Wait until all that have begun their work have ended it; the others leave it out.

        On a busy machine a thread may come to its first step when everything is done.
        """
        while self._helpers:
            self._helpers.pop().wait()


class _Helper:
    """A thread with its work."""

    def __init__(self, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
        self._to_do = [(work, arguments)]  # whoever takes it decides whether it is done
        self._thread: int | None = None
        self.was_made = False
        """Whether there surely is a thread: an interruption may have come before there was one."""
        self._process = os.getpid()
        self._ended = threading.Lock()
        self._ended.acquire()

    @property
    def has_ended(self) -> bool:
        """Whether the thread has done its work."""
        return not self._ended.locked()

    def run(self) -> None:
        """Do the work, unless it was called off; for the thread."""
        self._thread = threading.get_ident()
        _not_begun.discard(self)
        try:
            work, arguments = self._to_do.pop()
        except IndexError:
            return
        try:
            work(*arguments)
        finally:
            del work, arguments  # nothing of a request is held when it has ended
            self._ended.release()

    def wait(self) -> None:
        """Call the work off, or wait, once, until it is done."""
        # The threads of a process that was forked have stayed with that; in the last moments of the interpreter, when
        # what is left is taken apart, those of any process are stopped where they stand.
        if self._process != os.getpid() or sys.is_finalizing():
            return
        try:
            self._to_do.pop()
        except IndexError:
            # It may be this very thread: a stream that was forgotten is closed by whoever notices.
            if self._thread != threading.get_ident():
                self._ended.acquire()


_not_begun: set[_Helper] = set()
"""Those whose threads have not come to their first step yet, or were never made: a start may be interrupted."""


def _let_them_begin(longest: float) -> None:
    """Let threads come to their first step, with which those end that were called off; give up what was never made."""
    wait_while(lambda: _not_begun, longest)
    for helper in tuple(_not_begun):
        if not helper.was_made:
            _not_begun.discard(helper)


def _before_fork() -> None:
    """Python warns of a fork beside other threads, whatever they do."""
    _let_them_begin(_LONGEST_WAIT_BEFORE_A_FORK)


def _at_the_end() -> None:
    """A thread that begins when the interpreter is gone writes to memory that was given back.

    Python 3.10, and the first releases of those after it, do not see to that themselves
    (https://github.com/python/cpython/issues/108987).
    """
    _before_fork()  # gives up what was never made
    _let_them_begin(_LONGEST_WAIT_AT_THE_END)


atexit.register(_at_the_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_not_begun.clear)


def raise_first(failed: dict[int, BaseException]) -> NoReturn:
    """Raise the first of some errors, by the number of their piece of work; an interruption goes before any error."""
    first = failed[min(failed, key=lambda start: (isinstance(failed[start], Exception), start))]
    try:
        raise first
    finally:
        # An error knows the frames that it came through, and these know it: the arrays of a large request would be
        # held until the garbage is next collected.
        del first
        failed.clear()
