"""An environment variable that keeps onnxruntime from opening models as it is told to.

ORT_LOAD_CONFIG_FROM_MODEL=1 lets a model bring settings for its session along, the writing of files among them.
We tell onnxruntime, for each session, not to take any. Its Python side obeys; its C++ side looks at the variable
nevertheless, misses a parsed model that it only has with such settings, and refuses to open any (seen in every
version from 1.20 to 1.32). So the variable says "0" while a session of ours is opened. Threads of the host that
read it in these milliseconds see that too; the host's own models are opened as before.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

NAME = "ORT_LOAD_CONFIG_FROM_MODEL"
_OFF = "0"
_LONGEST_HELD = 1.0  # seconds

_Made = TypeVar("_Made")


class NoConfigFromModels:
    """Keeps the variable off while sessions are opened, by any number of threads at once.

    Ctrl-C may come anywhere, and what its handler does may be the opening of a session. So whoever is inside is known
    by a token, each step can be done twice, and the lock lets its own thread in. It is held for microseconds; where an
    interruption left it taken, others wait a moment, once, and take a new one.
    """

    def __init__(self) -> None:
        self._start_anew()

    def _start_anew(self) -> None:
        self._lock = threading.RLock()
        self._inside: set[object] = set()
        self._before = ""

    def during(self, opening: Callable[[], _Made]) -> _Made:
        """Return what `opening` makes, with the variable off meanwhile."""
        token = object()
        # Not a `with` block: an interruption in its beginning or end would be nobody's to mend.
        try:
            try:
                self._enter(token)
                return opening()
            finally:
                self._leave(token)
        finally:
            # Once more, for where an interruption came in the middle of the first time.
            self._leave(token)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._lock
        if not lock.acquire(timeout=_LONGEST_HELD):
            lock = threading.RLock()
            lock.acquire()
            self._lock = lock
        try:
            yield
        finally:
            lock.release()

    def _enter(self, token: object) -> None:
        with self._locked():
            self._inside.add(token)
            before = os.environ.get(NAME, "")
            if before not in ("", _OFF):
                self._before = before
                # Replaced, not taken away: other threads may be looking through the variables.
                os.environ[NAME] = _OFF

    def _leave(self, token: object) -> None:
        with self._locked():
            self._inside.discard(token)
            if not self._inside:
                self._restore()

    def _restore(self) -> None:
        # Python's own note of it may be the old one already, or still, where that was interrupted.
        if self._before and os.environ.get(NAME) in (_OFF, self._before):
            os.environ[NAME] = self._before
        self._before = ""

    def _in_forked_child(self) -> None:
        """The threads that were inside are not in the child: nobody else would put the variable back."""
        self._restore()
        self._start_anew()

    def watch_forks(self) -> None:
        """Keep the variable, and the lock, right in children that are forked while a session is opened."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_forked_child)


no_config_from_models = NoConfigFromModels()
no_config_from_models.watch_forks()
