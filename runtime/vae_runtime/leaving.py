"""The end of the interpreter while a session runs in another thread.

Python ends a thread that comes back from C code too late by unwinding its stack. onnxruntime's C++ frames do not
allow that: the whole process aborts ("terminate called without an active exception"). So the interpreter's
end waits for the calls under way, and a thread that comes with another call after that waits with it: it
would not have lived to see the answer.
"""

from __future__ import annotations

import atexit
import os
import threading
from types import TracebackType

_LONGEST_WAIT = 30.0  # seconds; a call is one chunk, so it ends long before
_NOBODY = 0  # no thread has this number


class CallsUnderWay:
    """Counts the calls between its `with` and their ends; safe to use from several threads."""

    def __init__(self) -> None:
        self._start_anew()

    def __enter__(self) -> None:
        with self._changed:
            late = self._leaving not in (_NOBODY, threading.get_ident())
            self._count += not late
        if late:
            threading.Event().wait()  # for ever: the process is about to end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._count -= 1
            if not self._count:
                self._changed.notify_all()

    def wait_for_their_end(self) -> None:
        """Let no other thread begin a call from now on, and wait for those that have begun."""
        with self._changed:
            self._leaving = threading.get_ident()
            self._changed.wait_for(lambda: not self._count, timeout=_LONGEST_WAIT)

    def _start_anew(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._count = 0
        self._leaving = _NOBODY  # the thread that ends the interpreter

    def watch_the_interpreter(self) -> None:
        """Wait at the interpreter's end; a forked child begins with no calls, whatever its parent was doing."""
        atexit.register(self.wait_for_their_end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)


calls_under_way = CallsUnderWay()
calls_under_way.watch_the_interpreter()
