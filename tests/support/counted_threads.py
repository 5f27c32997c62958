"""How many threads there are, and waiting for it to change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def thread_count() -> int:
    """Return how many threads run Python here; `threading` does not know those that helpers are."""
    return len(sys._current_frames())


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until it is, or fail."""
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.001)
