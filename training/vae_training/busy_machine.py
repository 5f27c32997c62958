"""Threads that sleep while they wait for each other, where other processes want the processors as well.

A step is computed in some hundred pieces, each by all threads together, and who has done its part of a piece waits for
the others. OpenMP's threads stay awake meanwhile, which is twice as fast on a quiet machine. On a busy one they waste
the time that the system grants to this process, until one of them is taken off its processor in the midst of its part,
for which all others wait: a step may take ten times as long as with threads that sleep.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vae_runtime.control_groups import read
from vae_runtime.threads import available_processors

# Linux: "some avg10=1.53 ...", how many percent of the last ten seconds somebody waited for a processor
# (https://docs.kernel.org/accounting/psi.html). Others do not tell.
_PRESSURE = Path("/proc/pressure/cpu")
_BUSY = 25.0  # percent

# Linux: "cpu3 ...", in what each processor has spent its time (proc_stat(5)).
_TIMES = Path("/proc/stat")
_SPENT = 8  # of the numbers behind a processor's name: the others are parts of these
_IDLE = (3, 4)  # those in which it did nothing
_WATCHED = 0.2  # seconds, in which this process does nothing
_MUCH = 0.5  # processors' worth of others' work

_WAIT_POLICY = "OMP_WAIT_POLICY"
_ASLEEP = "PASSIVE"
# Who has set one of these has decided.
_DECIDED_BY = (_WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def sleep_where_busy() -> None:
    """Let the threads of PyTorch sleep while they wait, where others are at work on this machine now.

    For a process of our own. It does nothing once torch is imported: OpenMP reads the environment when it is loaded. No
    number that is computed depends on it.
    """
    is_alone = available_processors() == 1 or os.environ.get("OMP_NUM_THREADS") == "1"
    decided = "torch" in sys.modules or any(name in os.environ for name in _DECIDED_BY)
    if not (is_alone or decided) and (_pressure() >= _BUSY or _taken_by_others() >= _MUCH):
        os.environ[_WAIT_POLICY] = _ASLEEP


def threads_are_asleep() -> bool:
    """Whether threads sleep while they wait."""
    return os.environ.get(_WAIT_POLICY, "").upper() == _ASLEEP


def _pressure() -> float:
    """Return how many percent of the last ten seconds somebody waited for a processor; 0 where nobody knows."""
    found = re.search(r"^some avg10=(\d+\.\d+)", read(_PRESSURE) or "")
    return float(found[1]) if found else 0.0


def _taken_by_others() -> float:
    """Return how many of this process's processors are at work while it is not; 0 where nobody knows."""
    before = dict(_processor_times())
    time.sleep(_WATCHED)
    taken = 0.0
    for name, (idle, total) in _processor_times():
        first_idle, first_total = before.get(name, (idle, total))
        if total > first_total:
            taken += 1.0 - (idle - first_idle) / (total - first_total)
    return taken


def _processor_times() -> Iterator[tuple[str, tuple[int, int]]]:
    """Give for each processor that this process may use its idle time and all of it, in ticks of the system's."""
    may_use = getattr(os, "sched_getaffinity", lambda _: ())(0)
    for line in (read(_TIMES) or "").splitlines():
        name, *fields = [*line.split(), ""]
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in may_use:
            numbers = [int(field) for field in fields[:_SPENT]]
            yield name, (sum(numbers[place] for place in _IDLE), sum(numbers))
