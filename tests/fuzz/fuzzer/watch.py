"""Seeing what a reader touches besides the file that it was given.

Two witnesses. Python's audit hook sees every file that Python opens, and every import, process and socket. The
kernel's inotify sees who opens the canaries: files that nobody has any business with, which lie where a hostile
file would look for others. It also sees what C++ code does, which goes past Python's hook.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path
from typing import Any

CANARY = "canary"
_SECRET = b"SECRET of the host: nobody opens this\n"

# From <sys/inotify.h>.
_OPEN, _MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x20, 0x2, 0x40, 0x80, 0x100, 0x200
_OF_A_FOLDER = 0x40000000
_NAMES = {
    _OPEN: "opened",
    _MODIFY: "changed",
    _MOVED_FROM: "moved",
    _MOVED_TO: "moved",
    _CREATE: "made",
    _DELETE: "deleted",
}
_EVENT = struct.Struct("iIII")

# What no reader does. Compiling is not among them: numpy parses the headers of .npy files with `ast`.
_FORBIDDEN = (
    "exec", "os.exec", "os.fork", "os.posix_spawn", "os.system", "os.remove", "os.rename", "os.rmdir", "os.mkdir",
    "os.symlink", "os.link", "os.truncate", "subprocess.", "socket.", "pickle.find_class", "shutil.", "urllib.",
    "marshal.loads",
)  # fmt: skip
# Python's own files, for what is imported on the way to an error; and where the container's quota stands.
_HARMLESS = (sys.prefix, sys.base_prefix, "/sys/fs/cgroup/", "/proc/self/", "/proc/meminfo")
# The standard library's ways of making classes and running modules, on the way to an error.
_MAY_EXECUTE = (
    "typing", "annotationlib", "collections", "dataclasses", "importlib._bootstrap", "importlib._bootstrap_external",
)  # fmt: skip


class TrespassError(Exception):
    """A reader touched something that it was not given."""


class Arena:
    """A folder with canaries in and above it, and the mutant's own folder inside."""

    def __init__(self, above: Path) -> None:
        """Lay the canaries; `above` is a new, empty folder."""
        self.above = above
        self.cwd = above / "cwd"
        self.mutant = self.cwd / "mutant"
        self.mutant.mkdir(parents=True)
        for folder in (above, self.cwd, self.mutant):
            (folder / CANARY).write_bytes(_SECRET)
        self._laid: set[str] = set()

    def lay(self, files: dict[str, bytes]) -> None:
        """Write a mutant's files over those of the mutant before."""
        for name in self._laid - set(files):
            (self.mutant / name).unlink()
        for name, data in files.items():
            (self.mutant / name).write_bytes(data)
        self._laid = set(files)


class Watch:
    """Watches this process. Made once in each worker, and armed around each mutant."""

    def __init__(self, arena: Arena) -> None:
        self._own = str(arena.mutant) + os.sep
        self._armed = False
        self._seen: list[str] = []
        self._inotify = _watch_canaries(arena)
        sys.addaudithook(self._hear)

    def __enter__(self) -> Watch:
        self._inotify_events()
        self._seen.clear()
        self._armed = True
        return self

    def __exit__(self, *_: object) -> None:
        self._armed = False

    def complain(self) -> None:
        """Raise `TrespassError` if anything was touched since the block began."""
        seen = self._seen + self._inotify_events()
        if seen:
            raise TrespassError("; ".join(dict.fromkeys(seen)))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "open":
            path = arguments[0]
            if isinstance(path, (str, bytes, os.PathLike)) and not self._is_harmless(os.fsdecode(path)):
                self._seen.append(f"opened {os.fsdecode(path)}")
        elif event.startswith(_FORBIDDEN) and sys._getframe(1).f_globals.get("__name__") not in _MAY_EXECUTE:
            self._seen.append(f"{event}{str(arguments)[:200]}")

    def _is_harmless(self, path: str) -> bool:
        # A bare name may be meant within a folder that was opened before; the hook is not told. One that is there
        # in the mutant's folder and not in the current one can only be meant so.
        if os.sep not in path and not os.path.lexists(path):
            path = os.path.join(self._own, path)  # noqa: PTH118 - Path would take ten times as long
        real = os.path.realpath(path)
        if os.path.basename(real) == CANARY:  # noqa: PTH119 - the same
            return False
        return real.startswith((self._own, *_HARMLESS)) or real + os.sep == self._own

    def _inotify_events(self) -> list[str]:
        events: list[str] = []
        while True:
            try:
                data = os.read(self._inotify, 65536)
            except BlockingIOError:
                return events
            at = 0
            while at < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0").decode()
                at += _EVENT.size + length
                if not mask & _OF_A_FOLDER:
                    what = [word for bit, word in _NAMES.items() if mask & bit]
                    events.append(
                        f"{' '.join(what) or hex(mask)} {name or CANARY}, which is not the mutant's"
                    )


def _watch_canaries(arena: Arena) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    mask = _OPEN | _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
    for path in (arena.above, arena.cwd, arena.mutant / CANARY):
        if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(path), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify is not to be had; the fuzzer needs Linux")
    return descriptor
