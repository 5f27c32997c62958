"""How many threads may work: the one place that decides it.

The default is the number of processors that this process may really use: its CPU affinity, or the
quota of its container where that is lower. A library inside a container that starts a thread for every
processor of the host only makes them wait for each other.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from vae_runtime.control_groups import control_groups, read
from vae_runtime.errors import InputError, shown
from vae_runtime.images import is_whole_number


def thread_count(threads: int | None = None) -> int:
    """Return `threads` itself, or the number of processors at hand where it is None.

    Raises:
        InputError: `threads` is not a whole number of at least 1.
    """
    if threads is None:
        return available_processors()
    if not is_whole_number(threads) or threads < 1:
        raise InputError(
            f"threads is {shown(threads)}; expected a whole number of at least 1, or None for all"
        )
    return int(threads)


def available_processors() -> int:
    """Return how many processors this process may use, by affinity and by container quota; at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no such call
        allowed = os.cpu_count() or 1
    quota = _container_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _container_quota() -> float | None:
    """Return the processors' worth of time that the control groups grant, or None where they set no bound."""
    quotas = [quota for group in control_groups("cpu") if (quota := _quota_of(group)) is not None]
    return min(quotas, default=None)


def _quota_of(group: Path) -> float | None:
    version_2 = read(group / "cpu.max")
    if version_2 is not None:
        words = version_2.split()
    else:
        words = [read(group / f"cpu.cfs_{what}_us") or "" for what in ("quota", "period")]
    try:
        quota, period = words[:2]
        granted = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no bound
        return None
    return granted if granted > 0 else None
