"""What libtiff has to say of damaged files.

Left alone it prints that to stderr, several lines of it, and Pillow takes the pixels that it gives all the
same: the rest of a fax after a damaged line, say. Pillow offers no way to be told.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterator

from PIL import _imaging

_said = threading.local()


@contextlib.contextmanager
def errors_raised() -> Iterator[None]:
    """Raise OSError after the block if libtiff found a file damaged that this thread decoded in it."""
    _listen()
    _said.anything = False
    yield
    if _said.anything:
        raise OSError("libtiff finds it damaged")


def _hear(_module: bytes, _words: bytes, _arguments: int) -> None:
    _said.anything = True


# The last is a va_list, which C passes as a pointer on all machines that Pillow's wheels are for.
_HEAR = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_hear)


@functools.cache
def _listen() -> None:
    """Take the place of what prints, in the whole process; not where libtiff cannot be reached."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(_HEAR)
