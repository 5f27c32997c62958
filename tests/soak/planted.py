"""Rows that do as rows may, to see what the table makes of them. Run like the soak itself."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from loads.command import main
from loads.row import Figure, Row, at_least, at_most, exactly


def good() -> list[Figure]:
    return [at_most("few", 1, 2), at_least("many", 2, 1), exactly("same", 0, 0)]


def over() -> list[Figure]:
    return [exactly("same", 0, 0), at_most("few", 3, 2)]


def under() -> list[Figure]:
    return [at_least("many", 1, 2)]


def other() -> list[Figure]:
    return [exactly("same", 0, 1)]


def nothing() -> list[Figure]:
    return []


def dies() -> list[Figure]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return good()


def raises() -> list[Figure]:
    raise KeyError("gone")


_ALL: tuple[Callable[[], list[Figure]], ...] = (good, over, under, other, nothing, dies, raises)
ROWS = {run.__name__: Row(run.__name__, f"what is {run.__name__}", run) for run in _ALL}

if __name__ == "__main__":
    sys.exit(main(ROWS))
