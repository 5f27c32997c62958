"""Threads that help with one request: begun, and waited for, also where Ctrl-C comes while one is beginning.

Not a ThreadPoolExecutor: Ctrl-C inside of its own locks leaves them taken, and its threads wait for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn

_LATE = 0.25  # seconds that a thread is given from its making to its first step


class Helpers:
    """The threads of one request."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def begin(self, work: Callable[..., None], *arguments: object, name: str) -> bool:
        """Start a thread on some work; False where no more can be started, at a limit or at the interpreter's end."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=work, args=arguments, name=name)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError as error:
            if "thread" not in str(error):  # but of a signal handler that ran in the midst of it
                raise
            self._threads.remove(thread)
            return False
        return True

    def wait(self) -> None:
        """Wait until all have ended."""
        for thread in self._threads:
            _wait_for_its_first_step(thread)
            # It may be this very thread: a stream that was forgotten is closed by whoever notices.
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()


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


def _wait_for_its_first_step(thread: threading.Thread) -> None:
    """Wait for a thread whose start was interrupted: it can be joined only once it runs; perhaps it never will."""
    until = time.monotonic() + _LATE
    while thread.ident is None and time.monotonic() < until:
        time.sleep(0.001)
