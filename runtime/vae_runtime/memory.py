"""More memory than there is: told before the work begins, and as an error of ours where it shows later.

An allocation that is too large does not always fail. Where the system promises more than it has, the process is
killed when it uses what it was promised. So a large request is compared with what the machine has left.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from vae_runtime.control_groups import control_groups, read
from vae_runtime.errors import ResourceLimitError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

ALWAYS_TRIED = 256 << 20
"""Bytes; requests up to this are not worth the question, which takes half a millisecond."""

_BEYOND_ALL = 10**18  # bytes; and a number may be too large to be divided

_MEMORY = Path("/proc/meminfo")

# Of a control group: what it may take, what it has, and those lines of memory.stat that say how much of that are files,
# which can be read again, and how much of these are none. By the version of control groups.
_OF_A_GROUP = (
    ("memory.max", "memory.current", "file", "shmem"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem"),
)

# In the words of onnxruntime's arena, of C++, and of CUDA.
_EXHAUSTED = re.compile(
    r"failed to allocate|bad[_ ]alloc(ation)?\b|out of memory|memory allocation (failure|failed)|_ALLOC_FAILED",
    re.IGNORECASE,
)


def require_memory(wanted: int, what: str) -> None:
    """Raise `ResourceLimitError` where `wanted` bytes, for `what`, are more than the machine has left."""
    if wanted > ALWAYS_TRIED:
        left = memory_left()
        if left is not None and wanted > left:
            raise ResourceLimitError(
                f"not enough memory ({what} would take {readable_size(wanted)}; {readable_size(left)} are left); "
                "ask for fewer at a time"
            )


def memory_left() -> int | None:
    """Return how many bytes this process can still get, as far as the system tells; None where it does not."""
    limits = [_machine_memory(), *map(_left_in, control_groups("memory"))]
    return min((limit for limit in limits if limit is not None), default=None)


def explain_exhaustion(method: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Let a function raise `ResourceLimitError` where it would raise Python's `MemoryError`."""

    @functools.wraps(method)
    def explained(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return method(*args, **kwargs)
        except MemoryError as error:
            raise _explanation(error) from error

    return explained


def explain_exhaustion_of_each(items: Iterator[_Result]) -> Iterator[_Result]:
    """Give what `items` gives, and raise `ResourceLimitError` where that raises Python's `MemoryError`."""
    try:
        yield from items
    except MemoryError as error:
        raise _explanation(error) from error


def _explanation(error: MemoryError) -> ResourceLimitError:
    reason = str(error) or "an allocation failed"
    return ResourceLimitError(f"not enough memory ({reason}); ask for fewer at a time")


def is_exhaustion(error: BaseException) -> bool:
    """Whether an error of onnxruntime, which has no type for it, means that memory ran out."""
    return isinstance(error, MemoryError) or _EXHAUSTED.search(str(error)) is not None


def _machine_memory() -> int | None:
    """Return what is free or can be freed, swap included; on systems other than Linux all that is built in."""
    try:
        fields = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
        return sum(int(fields[name].split()[0]) << 10 for name in ("MemAvailable", "SwapFree"))
    except (OSError, ValueError, KeyError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no such call
        return None


def _left_in(group: Path) -> int | None:
    """Return what is left of what a control group may take; None where there is no bound."""
    for limit, taken, files, no_files in _OF_A_GROUP:
        most = _number(read(group / limit))  # "max": no bound
        if most is not None:
            lines = (line.split(" ", 1) for line in (read(group / "memory.stat") or "").splitlines())
            counted = {name: _number(*rest) or 0 for name, *rest in lines}
            freed = counted.get(files, 0) - counted.get(no_files, 0)
            return max(0, most - max(0, (_number(read(group / taken)) or 0) - freed))
    return None


def _number(text: str | None = None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def readable_size(size: int) -> str:
    """Return a number of bytes in words."""
    if size >= _BEYOND_ALL:
        return "more than a million TB"
    for unit, bytes_of_unit in (("TB", 10**12), ("GB", 10**9)):
        if size >= bytes_of_unit:
            return f"{size / bytes_of_unit:,.1f} {unit}"
    return f"{size / 10**6:,.0f} MB"
