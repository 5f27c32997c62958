"""Hidden folders beside an output, in which it is written until it is whole.

    .tmp-4711-1f0c9a3e-5d8e02b7/      process, kernel, number
        lock                          locked as long as the process lives
        faces.npy                     what is being written
        replaced/                     a folder that is being replaced, where the system cannot exchange two

Whoever writes beside them sweeps away those whose process was killed. The lock tells which: the kernel
gives it up with its process, so that neither a process number that is used again nor one of another
container misleads. Of other machines, which share a drive but perhaps not its locks, and where there are
no locks, a folder is swept once nothing has changed in it for a day.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from vae_runtime.locks import Held, take

_PREFIX = ".tmp-"
_NAME = re.compile(r"\.tmp-\d+-([0-9a-f]{8})-[0-9a-f]{8}")
_LOCK = "lock"
_REPLACED = "replaced"
_ATTEMPTS = 1000  # at the lock; where a sandbox forbids locks, nobody gets it, and nobody sweeps
_ABANDONED = 24 * 3600.0  # seconds without a change; an export, the longest of all writing, takes minutes


@contextlib.contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """Give an empty hidden folder in the same folder as `target`, which must exist; it goes with the block.

    Raises:
        OSError: it cannot be made.
    """
    path = target.parent / f"{_PREFIX}{os.getpid()}-{_kernel()}-{os.urandom(4).hex()}"
    held = None
    try:
        try:
            path.mkdir()
            for _ in range(_ATTEMPTS):
                held = _take(path)
                if held is not None:
                    break
                # Somebody who sweeps saw it before it was locked: once he is done it is made again.
                path.mkdir(exist_ok=True)
            _sweep(target.parent, now=path.stat().st_mtime)
            yield path
        finally:
            _delete(path, target)
    finally:
        try:
            # Once more, for where an interruption came in the middle of the first time.
            _delete(path, target)
        finally:
            if held is not None:
                with contextlib.suppress(OSError):  # nothing was written to it that could be lost
                    os.close(held.descriptor)


def set_aside(target: Path, scratch: Path) -> None:
    """Move a folder into the scratch folder, from where it comes back unless another takes its place."""
    (scratch / _REPLACED).mkdir(exist_ok=True)
    target.rename(scratch / _REPLACED / target.name)


def sweep(folder: Path) -> None:
    """Delete what killed processes left in a folder; put back what they had moved aside. Never fails."""
    _sweep(folder, now=time.time())


def _sweep(folder: Path, now: float) -> None:
    """Sweep; `now` is by the clock of the file system, which may be that of another machine."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            name = _NAME.fullmatch(entry.name)
            if name and entry.is_dir(follow_symlinks=False):
                _sweep_one(Path(entry.path), own=name[1] == _kernel(), now=now)


def _sweep_one(path: Path, *, own: bool, now: float) -> None:
    with contextlib.suppress(OSError):
        abandoned = now - _last_change(path) > _ABANDONED
        held = _take(path)
        if held is None:
            return
        try:
            if (own and held.certain) or abandoned:
                _delete(path, *((path.parent / aside.name) for aside in _moved_aside(path)))
        finally:
            os.close(held.descriptor)


def _delete(scratch: Path, *targets: Path) -> None:
    """Put back what was moved aside, and delete the rest. What cannot be done is left to who sweeps next."""
    with contextlib.suppress(OSError):
        for target in targets:
            aside = scratch / _REPLACED / target.name
            if is_there(aside) and not is_there(target):
                aside.rename(target)
        # Some Pythons raise even so, where a folder cannot be closed.
        shutil.rmtree(scratch, ignore_errors=True)


def is_there(path: Path) -> bool:
    """Tell whether there is anything of a name.

    Raises:
        OSError: the disk failed, and nobody knows; `os.path.lexists` says no to that.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _moved_aside(scratch: Path) -> list[Path]:
    return list((scratch / _REPLACED).iterdir()) if (scratch / _REPLACED).is_dir() else []


def _last_change(path: Path) -> float:
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))


def _take(scratch: Path) -> Held | None:
    try:
        return take(scratch / _LOCK)
    except FileNotFoundError:  # swept in this moment
        return None


@functools.cache
def _kernel() -> str:
    """Return a mark of the running kernel, whose locks all its processes and containers share."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        text = platform.node()
    return f"{zlib.crc32(text.encode()):08x}"
