"""The C library's allocator, told that a process trains.

Every step takes and frees the same megabytes. Whether glibc keeps them in between or gives them back to the system
depends on what else the process has freed before; where it gives them back, a step pays for a thousand page faults,
which for the classic model on a CPU are a fifth of its time.
"""

from __future__ import annotations

import contextlib
import ctypes

# From glibc's malloc.h; their page is mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30  # bytes of free memory that are not given back
_LARGE = 32 << 20  # bytes: blocks of that size and more still come and go one by one; glibc allows no more


def keep_freed_memory() -> None:
    """Let the process keep what it frees, up to a gigabyte; does nothing where there is no glibc.

    For a process of our own: it changes a setting of the whole of it.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):  # musl, macOS, Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
