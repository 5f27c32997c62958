"""A file system whose n-th call fails, as SQLite is tested: n = 1, 2, 3, ... until nothing fails any more."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from writers import watch

_DELETING = ("os.remove", "os.rmdir")


@dataclass(frozen=True)
class Fault:
    """What fails, and how."""

    name: str
    number: int
    """The errno."""
    lasting: bool = False
    """Whether all later calls fail too."""
    deleting: bool = True
    """Whether deleting fails as well; on a full disk it does not."""


FAULTS = (
    Fault("no space, once", errno.ENOSPC, deleting=False),
    Fault("no space from then on", errno.ENOSPC, lasting=True, deleting=False),
    Fault("a failing disk, once", errno.EIO),
    Fault("a failing disk from then on", errno.EIO, lasting=True),
    Fault("no permission, once", errno.EACCES),
)


class FileSystem:
    """The calls of this process that open, rename, make, delete and flush; one instance a process."""

    def __init__(self) -> None:
        self._fault: Fault | None = None
        self._left = 0
        self._folder = ""
        self.failed: list[str] = []
        """The calls that failed, in turn."""
        self._watching = False

    @contextlib.contextmanager
    def failing(self, fault: Fault, at: int, folder: Path) -> Iterator[None]:
        """Let the calls fail in a folder, from the one of that number (from 1) on or that one alone."""
        if not self._watching:
            watch(folder.parents[1], self._called)  # once: it cannot be taken back
            self._watching = True
        self.failed = []
        self._fault, self._left = fault, at
        # Flushing fails as ordered, and otherwise does nothing: nobody pulls the plug here, and it is slow.
        fsync, os.fsync = os.fsync, lambda _: self._called("os.fsync")
        try:
            yield
        finally:
            self._fault, os.fsync = None, fsync

    def _called(self, event: str) -> None:
        fault = self._fault
        if fault is None or (event in _DELETING and not fault.deleting):
            return
        self._left -= 1
        if self._left == 0 or (self._left < 0 and fault.lasting):
            self.failed.append(event)
            raise OSError(fault.number, os.strerror(fault.number))
