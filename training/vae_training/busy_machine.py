"""Threads that sleep while they wait for each other, where other processes want the processors as well.

A step is computed in some hundred pieces, each by all threads together, and who has done its part of a piece waits for
the others. OpenMP's threads stay awake meanwhile, which is a fourth to a half faster on a quiet machine. On a busy one
they waste the time that the system grants to this process, until one of them is taken off its processor in the midst of
its part, for which all others wait. Beside one other process a step takes twice as long as with threads that sleep,
beside more of them up to ten times as long.
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

# Linux: "cpu3 ...", in what each processor has spent its time (proc_stat(5)). Others do not tell.
_TIMES = Path("/proc/stat")
# Of the numbers behind a processor's name, those in which it did nothing, or worked for processes that are nice: these
# give way, and cost a step hardly anything. Numbers behind the eighth are parts of those before.
_FREE = (1, 3, 4)
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
    if not (is_alone or decided) and _taken_by_others() >= _MUCH:
        os.environ[_WAIT_POLICY] = _ASLEEP


def threads_are_asleep() -> bool:
    """Whether threads sleep while they wait."""
    return os.environ.get(_WAIT_POLICY, "").upper() == _ASLEEP


def _taken_by_others() -> float:
    """Return how many of this process's processors are at work while it is not; 0 where nobody knows."""
    before = dict(_processor_times())
    time.sleep(_WATCHED)
    taken = 0.0
    for name, (free, total) in _processor_times():
        first_free, first_total = before.get(name, (free, total))
        if total > first_total:
            taken += 1.0 - (free - first_free) / (total - first_total)
    return taken


def _processor_times() -> Iterator[tuple[str, tuple[int, int]]]:
    """Give for each processor that this process may use its free time and all of it, in ticks of the system's."""
    may_use = getattr(os, "sched_getaffinity", lambda _: ())(0)
    for line in (read(_TIMES) or "").splitlines():
        found = re.fullmatch(r"cpu(\d+)((?: \d+){8}).*", line)
        if found and int(found[1]) in may_use:
            numbers = [int(number) for number in found[2].split()]
            yield found[1], (sum(numbers[place] for place in _FREE), sum(numbers))
