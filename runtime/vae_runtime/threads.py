"""How many threads may work: the one place that decides it.

The default is the number of processors that this process may really use: its CPU affinity, or the
quota of its container where that is lower. A library inside a container that starts a thread for every
processor of the host only makes them wait for each other.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from vae_runtime.errors import InputError

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_CGROUP_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def thread_count(threads: int | None = None) -> int:
    """Return `threads` itself, or the number of processors at hand where it is None.

    Raises:
        InputError: `threads` is not a whole number of at least 1.
    """
    if threads is None:
        return available_processors()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputError(f"threads is {threads!r}; expected a whole number of at least 1, or None for all")
    return threads


def available_processors() -> int:
    """Return how many processors this process may use, by affinity and by container quota; at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no such call
        allowed = os.cpu_count() or 1
    quota = _container_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _container_quota() -> float | None:
    """Return the processors' worth of time that the control group grants, or None where it sets no bound."""
    try:
        quota, period = _CGROUP_V2.read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota, period = _CGROUP_V1_QUOTA.read_text(), _CGROUP_V1_PERIOD.read_text()
        except OSError:
            return None
    try:
        granted = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no bound
        return None
    return granted if granted > 0 else None
