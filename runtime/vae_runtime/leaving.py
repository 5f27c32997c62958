"""Calls under way when the interpreter ends, or when the process forks.

Python ends a daemon thread that comes back from C code too late by unwinding its stack. onnxruntime's C++
frames do not allow that: the whole process aborts ("terminate called without an active exception"). A child
forked while another thread is inside a session inherits that session's locks as taken, for ever. So the
interpreter's end and every fork wait for the calls under way in other threads, and meanwhile let them
begin no new ones.

There is no lock here on purpose. A lock would be held for ever by a KeyboardInterrupt between taking and
releasing it, by a fork at the wrong moment, or by a signal handler or finalizer that uses a model in the midst
of a call of the same thread. Single operations on a dict or set are atomic, and that is enough.
"""

from __future__ import annotations

import atexit
import os
import time
from threading import get_ident
from types import TracebackType

from vae_runtime.errors import ClosedError
from vae_runtime.waiting import INTERVAL, wait_while

# Seconds. A call is one chunk, so it ends long before.
_LONGEST_WAIT_AT_THE_END = 30.0
_LONGEST_WAIT_BEFORE_A_FORK = 5.0
_PATIENCE = 2.0  # seconds that a thread is kept, at the end, from an error that nobody will read


class CallsUnderWay:
    """Counts the calls between its `with` and their ends; safe to use from several threads."""

    def __init__(self) -> None:
        self._depths: dict[int, int] = {}
        """How many calls each thread is in, by its number: more than one where a signal handler makes another."""
        self._halting: set[int] = set()
        """The threads that let no other begin a call: they fork, or end the interpreter."""
        self._leaving = False

    def __enter__(self) -> None:
        thread = get_ident()
        # First be seen, then look: whoever halts does it the other way round, so one of the two notices.
        depth = self._depths[thread] = self._depths.get(thread, 0) + 1
        # A call inside a call goes on: the outer one is waited for.
        if self._halting and depth == 1:
            self._stand_back(thread)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread = get_ident()
        depth = self._depths.get(thread, 0)
        if depth > 1:
            self._depths[thread] = depth - 1
        else:
            self._depths.pop(thread, None)

    def _stand_back(self, thread: int) -> None:
        """Begin the call when it is nobody's turn any more."""
        while self._halting - {thread}:
            self._depths.pop(thread, None)
            if self._leaving:
                # Most often the process is gone before this is over. If not, somebody may wait for this thread.
                time.sleep(_PATIENCE)
                raise ClosedError("the interpreter is ending; expected no more calls of other threads")
            time.sleep(INTERVAL)
            self._depths[thread] = 1

    def _halt(self, longest: float) -> None:
        """Let no other thread begin a call, and wait for those that have begun."""
        thread = get_ident()
        self._halting.add(thread)
        # This thread is in no call, or waits for itself; whatever an interruption may have left behind.
        wait_while(lambda: self._depths.keys() - {thread}, longest)

    def leave(self) -> None:
        """Let no other thread begin a call from now on, and wait for those that have begun."""
        self._leaving = True
        self._halt(_LONGEST_WAIT_AT_THE_END)

    def watch_the_interpreter(self) -> None:
        """Wait at the interpreter's end and before every fork."""
        atexit.register(self.leave)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork,
                after_in_child=self._after_fork_in_child,
            )

    def _before_fork(self) -> None:
        self._halt(_LONGEST_WAIT_BEFORE_A_FORK)

    def _after_fork(self) -> None:
        if not self._leaving:
            self._halting.discard(get_ident())

    def _after_fork_in_child(self) -> None:
        """Keep the calls of the only thread that is left: it may have forked inside one."""
        thread = get_ident()
        self._depths = {thread: self._depths[thread]} if thread in self._depths else {}
        self._halting = set()
        self._leaving = False


calls_under_way = CallsUnderWay()
calls_under_way.watch_the_interpreter()
