"""Locks on files, which vanish with the process that holds them, whatever ends it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]  # for mypy a module is there or is not

# Network drives and FUSE may know no locks. EACCES is what some file systems say where others say EAGAIN.
_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)


class Held(NamedTuple):
    """A lock file that is open; closing the descriptor gives the lock up."""

    descriptor: int
    certain: bool
    """Whether it keeps others out: false where the platform or the file system knows no locks."""


def take(path: Path) -> Held | None:
    """Open and lock a file, made where it is missing; never waits.

    Returns:
        None where another process holds it (or, with another descriptor, this one), or has just deleted it.

    Raises:
        OSError: the file cannot be made or opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        certain = _lock(descriptor)
        # Whoever held it before may have deleted it since we opened it: then it guards nothing any more.
        if certain is not None and os.fstat(descriptor).st_nlink > 0:
            return Held(descriptor, certain)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@contextlib.contextmanager
def taken(path: Path) -> Iterator[Held | None]:
    """Hold a lock while the block runs, and delete its file afterwards; gives None as `take` does."""
    held = None
    try:
        held = take(path)
        yield held
    finally:
        if held is not None:
            # Deleted before it is given up: whoever opened it meanwhile sees that it guards nothing.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(held.descriptor)


def _lock(descriptor: int) -> bool | None:
    """Return whether the lock is certain; None where another holds it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _HELD_BY_ANOTHER else False
    return True
