"""The end of the interpreter while a session runs in another thread.

Python ends a daemon thread that comes back from C code too late by unwinding its stack. onnxruntime's C++
frames do not allow that: the whole process aborts ("terminate called without an active exception"). So the
interpreter's end waits for the calls under way in other threads, and lets them begin no new ones.

There is no lock here on purpose. A lock would be held for ever in the child of a fork at the wrong moment, by
a KeyboardInterrupt between taking and releasing it, or by a signal handler or finalizer that uses a model in
the midst of a call of the same thread. Single operations on a dict are atomic, and that is enough.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from types import TracebackType

from vae_runtime.errors import ClosedError

_LONGEST_WAIT = 30.0  # seconds; a call is one chunk, so it ends long before
_PATIENCE = 2.0  # seconds that a late thread is kept from an error that nobody will read
_INTERVAL = 0.001  # seconds between looks
_NOBODY = 0  # no thread has this number


class CallsUnderWay:
    """Counts the calls between its `with` and their ends; safe to use from several threads."""

    def __init__(self) -> None:
        self._depths: dict[int, int] = {}
        """How many calls each thread is in, by its number: more than one where a signal handler makes another."""
        self._leaving = _NOBODY
        """The thread that ends the interpreter."""

    def __enter__(self) -> None:
        thread = threading.get_ident()
        # First be seen, then look: whoever leaves does it the other way round, so one of the two notices.
        self._depths[thread] = self._depths.get(thread, 0) + 1
        if self._leaving not in (_NOBODY, thread):
            self.__exit__(None, None, None)
            # Most often the process is gone before this is over. If not, somebody may wait for this thread.
            time.sleep(_PATIENCE)
            raise ClosedError("the interpreter is ending; expected no more calls of other threads")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread = threading.get_ident()
        depth = self._depths.get(thread, 0)
        if depth > 1:
            self._depths[thread] = depth - 1
        else:
            self._depths.pop(thread, None)

    def wait_for_their_end(self) -> None:
        """Let no other thread begin a call from now on, and wait for those that have begun."""
        self._leaving = threading.get_ident()
        until = time.monotonic() + _LONGEST_WAIT
        # This thread is in no call, whatever an interruption may have left behind.
        while self._depths.keys() - {self._leaving} and time.monotonic() < until:
            time.sleep(_INTERVAL)

    def watch_the_interpreter(self) -> None:
        """Wait at the interpreter's end; a forked child begins with no calls but those of the thread that forked."""
        atexit.register(self.wait_for_their_end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._keep_only_this_thread)

    def _keep_only_this_thread(self) -> None:
        thread = threading.get_ident()
        self._depths = {thread: self._depths[thread]} if thread in self._depths else {}
        self._leaving = _NOBODY


calls_under_way = CallsUnderWay()
calls_under_way.watch_the_interpreter()
