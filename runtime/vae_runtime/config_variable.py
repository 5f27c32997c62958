"""An environment variable that keeps onnxruntime from opening models as it is told to.

ORT_LOAD_CONFIG_FROM_MODEL=1 lets a model bring settings for its session along, the writing of files among them.
We tell onnxruntime, for each session, not to take any. Its Python side obeys; its C++ side looks at the variable
nevertheless, misses a parsed model that it only has with such settings, and refuses to open any (seen in every
version from 1.20 to 1.32). So the variable says "0" while a session of ours is opened. Threads of the host that
read it in these milliseconds see that too; the host's own models are opened as before.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType

NAME = "ORT_LOAD_CONFIG_FROM_MODEL"
_OFF = "0"


class NoConfigFromModels:
    """For a `with` block around the opening of sessions; any number of threads may be inside at once."""

    def __init__(self) -> None:
        self._start_anew()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = os.environ.get(NAME, "")
                if self._before not in ("", _OFF):
                    # Replaced, not taken away: other threads may be looking through the variables.
                    os.environ[NAME] = _OFF
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restore()

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = ""

    def _restore(self) -> None:
        if self._before not in ("", _OFF) and os.environ.get(NAME) == _OFF:
            os.environ[NAME] = self._before

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
