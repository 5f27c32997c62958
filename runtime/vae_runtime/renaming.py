"""Renames that Python does not know: two names exchanged at once, and one that never replaces anything."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_CWD = -100  # AT_FDCWD: paths are as they stand
_NOREPLACE, _EXCHANGE = 1, 2

# What a kernel or a file system says that does not have them, and a sandbox that does not know them.
_NOT_THERE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)


def exchange(a: Path, b: Path) -> bool:
    """Let two names change places, with no moment in which one of them is missing.

    Returns:
        False where the system cannot do it; then nothing has happened.

    Raises:
        OSError: it can, and failed.
    """
    return _rename(a, b, _EXCHANGE)


def rename_to_new(source: Path, target: Path) -> None:
    """Rename a file or folder, but never over another.

    Where the system cannot promise it, a file that appears in the same moment may be replaced after all.

    Raises:
        FileExistsError: `target` is there already.
        OSError: it failed.
    """
    if not _rename(source, target, _NOREPLACE):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        source.rename(target)


def _rename(source: Path, target: Path, flag: int) -> bool:
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    sys.audit("os.rename", str(source), str(target), -1, -1)  # as Python's own rename tells those who watch
    if renameat2(_CWD, os.fsencode(source), _CWD, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_THERE:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@cache
def _renameat2() -> Callable[..., int] | None:
    """Return the C function; None before glibc 2.28, and on systems other than Linux."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    return function
