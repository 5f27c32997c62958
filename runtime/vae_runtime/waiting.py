"""Waiting for other threads without a lock, which an interruption or a fork could leave taken."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL = 0.0005  # seconds between looks


def wait_while(is_so: Callable[[], object], longest: float) -> None:
    """Wait until something is not so any more, at most so many seconds."""
    until = time.monotonic() + longest
    while is_so() and time.monotonic() < until:
        time.sleep(INTERVAL)
