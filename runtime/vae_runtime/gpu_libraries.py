"""CUDA's libraries: loaded from where pip put them, and named where they are missing, without a word on stdout."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType

_log = logging.getLogger(__name__)

logs_to_stderr = True
"""Whether onnxruntime may write to stderr why a GPU's provider did not load. Of a process of our own we say it."""

_FATAL_ONLY = 4
_DRIVER = "libcuda.so.1"  # on Linux; it comes with the driver, and no package of pip has it


def load_gpu_libraries(onnxruntime: ModuleType) -> str:
    """Load what onnxruntime needs on an NVIDIA GPU; return its first complaint, or "" where it has none."""
    if not logs_to_stderr:
        onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is None:
        return ""
    said: list[str] = []

    def note(*words: object, **_: object) -> None:
        said.append(" ".join(map(str, words)))

    if isinstance(preload, FunctionType):
        preload = _with_print(preload, note)
    preload()
    for line in said:
        _log.info("onnxruntime: %s", line)
    return said[0] if said else ""


def _with_print(function: FunctionType, note: Callable[..., None]) -> FunctionType:
    """Return a copy of a function that calls `note` where it would print: stdout may be where an array goes.

    (Another sys.stdout in the meantime would be that of all threads.)
    """
    names = {**function.__globals__, "print": note}
    copy = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def missing_driver() -> str:
    """Return why the driver's library does not load, or "" where it does or nobody can tell."""
    if sys.platform != "linux":
        return ""
    import ctypes

    try:
        ctypes.CDLL(_DRIVER)
    except OSError as error:
        return f"the driver is missing: {error}"
    return ""
