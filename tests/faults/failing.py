"""A file system whose n-th call fails, as SQLite is tested: n = 1, 2, 3, ... until nothing fails any more.

Python tells those who listen of the calls that take a name. Functions stand in for those that take an open
file, and what is opened in the folder by Python's `open` gets, below the buffers that it always has, a file
whose writes are counted one by one.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import fcntl
import io
import os
import pathlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TOLD = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.scandir",
         "os.listdir")  # fmt: skip
_LOOKING = {
    "os.stat",
    "os.lstat",
    "os.fstat",
    "os.scandir",
    "os.listdir",
    "open to read",
    "read",
    "flock",
    "os.close",
}
_DELETING = {"os.remove", "os.rmdir"}

FILE_DESCRIPTORS = Path("/proc/self/fd")  # its links tell where an open file lies


@dataclass(frozen=True)
class Fault:
    """What fails, and how."""

    name: str
    number: int
    """The errno."""
    lasting: bool = False
    """Whether all later calls fail too."""
    spared: frozenset[str] = frozenset()
    """Calls that are not concerned."""


CUT_SHORT = Fault("a write cut short", 0)
"""Once, a write writes half of its bytes and says so; no call fails."""

# Calls that change nothing, and those that only take away: a full disk does them.
HARMLESS = frozenset(_LOOKING | _DELETING)

# Calls without which an output is not whole, or not safe: somebody must hear when they fail.
SAVING = {"write", "close", "os.fsync", "os.rename"}

FAULTS = (
    Fault("no space, once", errno.ENOSPC, spared=HARMLESS),
    Fault("no space from then on", errno.ENOSPC, lasting=True, spared=HARMLESS),
    Fault("a failing disk, once", errno.EIO),
    Fault("a failing disk from then on", errno.EIO, lasting=True),
    Fault("no permission, once", errno.EACCES),
)


class FileSystem:
    """The calls of this process that concern one folder; one instance a process."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        """The calls that failed, in turn."""
        self.calls: Counter[str] = Counter()
        """How often each was called."""
        self.written: Counter[str] = Counter()
        """Bytes that went into files of a name."""
        self._folder: str | None = None
        self._fault: Fault | None = None
        self._left = 0
        self._listening = False

    @contextlib.contextmanager
    def failing(self, fault: Fault | None, at: int, folder: Path) -> Iterator[None]:
        """Let the calls fail in a folder, from the one of that number (from 1) on or that one alone."""
        if not self._listening:
            sys.addaudithook(self._told)  # once: it cannot be taken back
            self._listening = True
        self.failed, self.calls, self.written = [], Counter(), Counter()
        self._fault, self._left = fault, at
        with contextlib.ExitStack() as stack:
            for place, name, stand_in in self._stand_ins():
                stack.callback(setattr, place, name, getattr(place, name))
                setattr(place, name, stand_in)
            self._folder = str(folder)
            try:
                yield
            finally:
                self._folder = None

    def counting(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """Let nothing fail, and count."""
        return self.failing(None, 0, folder)

    def _stand_ins(self) -> list[tuple[Any, str, Callable[..., Any]]]:
        places: list[tuple[Any, str, Callable[..., Any]]] = [
            (io, "open", self._open_file),
            (builtins, "open", self._open_file),
            (os, "open", self._open_relative),
            (os, "write", self._write),
            (os, "close", self._close),
            # It fails as ordered, and otherwise does nothing: nobody pulls the plug here, and it is slow.
            (os, "fsync", self._counted("os.fsync", lambda _: None)),
            (fcntl, "flock", self._counted("flock", fcntl.flock)),
        ]
        places += [
            (os, name, self._counted(f"os.{name}", getattr(os, name))) for name in ("stat", "lstat", "fstat")
        ]
        accessor = getattr(pathlib, "_NormalAccessor", None)
        if accessor is not None:  # Python 3.10 keeps what it opens files with
            places.append((accessor, "open", staticmethod(self._open_file)))
        return places

    def _told(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear of a call before it is made."""
        if self._folder is None or event not in _TOLD:
            return
        folders = {"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 2}
        number = folders.get(event)
        if self._concerns(arguments[0], None if number is None else arguments[number]):
            self._call(_opening(arguments[2]) if event == "open" else event)

    def _concerns(self, file: Any, folder: int | None = None) -> bool:
        """Tell whether a name, relative to an open folder perhaps, or an open file lies in the folder."""
        if self._folder is None:
            return False
        if isinstance(file, int):
            place = _place(file)
        elif folder is not None and folder >= 0:
            place = f"{_place(folder)}/"
        else:
            place = os.fsdecode(file)
        return f"{place}/".startswith(f"{self._folder}/")

    def _call(self, name: str) -> None:
        """Count a call, and let it fail where its turn has come."""
        self.calls[name] += 1
        fault = self._fault
        if fault is None or fault is CUT_SHORT or name in fault.spared:
            return
        self._left -= 1
        if self._left == 0 or (self._left < 0 and fault.lasting):
            self.failed.append(name)
            raise OSError(fault.number, os.strerror(fault.number))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, *arguments: Any, dir_fd: int | None = None, **options: Any) -> Any:
            if self._concerns(file, dir_fd):
                self._call(name)
            if dir_fd is not None:
                options["dir_fd"] = dir_fd
            return real(file, *arguments, **options)

        return call

    def _open_relative(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        # Of the folder that a name is relative to, those who listen are not told.
        if dir_fd is not None and self._concerns(path, dir_fd):
            self._call(_opening(flags))
        return _OPEN(path, flags, mode, dir_fd=dir_fd)

    def _close(self, descriptor: int) -> None:
        concerned = self._concerns(descriptor)
        _CLOSE(descriptor)
        if concerned:
            self._call("os.close")  # what cannot be closed is closed none the less

    def _write(self, descriptor: int, data: Any) -> int:
        if not self._concerns(descriptor):
            return _WRITE(descriptor, data)
        return self.write_counted(descriptor, data, lambda some: _WRITE(descriptor, some))

    def write_counted(self, descriptor: int, data: Any, write: Callable[[Any], int]) -> int:
        """Write, or fail to; the first one to fail for ever writes half of its bytes before."""
        view = memoryview(data).cast("B")
        if self._is_cut_short() and len(view) > 1:
            self.failed.append("half a write")
            view = view[: len(view) // 2]
        else:
            self._call("write")
        count = write(view)
        self.written[Path(_place(descriptor)).name] += count
        return count

    def _is_cut_short(self) -> bool:
        """Count a write that may be cut short: the last before a disk is full is, too."""
        fault = self._fault
        if fault is CUT_SHORT or (fault is not None and fault.lasting and self._left == 1):
            self._left -= 1
            return self._left == 0
        return False

    def _open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """Open as Python's `open` does."""
        if not self._concerns(file):
            return _OPEN_FILE(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _CountedFile(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        kind: Any = io.BufferedReader if mode.startswith("r") else io.BufferedWriter
        buffered = (io.BufferedRandom if "+" in mode else kind)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)


_OPEN, _WRITE, _CLOSE, _OPEN_FILE = os.open, os.write, os.close, io.open


class _CountedFile(io.FileIO):
    def __init__(self, files: FileSystem, *arguments: Any) -> None:
        self._files = files
        super().__init__(*arguments)

    def write(self, data: Any) -> int:
        return self._files.write_counted(self.fileno(), data, super().write)

    def readinto(self, buffer: Any) -> int:
        self._files._call("read")
        return super().readinto(buffer)

    def readall(self) -> bytes:
        self._files._call("read")
        return super().readall()

    def close(self) -> None:
        concerned = not self.closed and self.closefd
        super().close()
        if concerned:
            self._files._call("close")


def _opening(flags: int) -> str:
    return "open to write" if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "open to read"


def _place(descriptor: int) -> str:
    """Return where an open file lies; nothing where it is not open."""
    try:
        return str((FILE_DESCRIPTORS / str(descriptor)).readlink())
    except OSError:
        return ""
