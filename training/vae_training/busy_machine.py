"""Threads that sleep while they wait for each other, where other processes want the processors as well.

A step is computed in some hundred pieces, each by all threads together, and who has done its part of a piece waits for
the others. OpenMP's threads stay awake meanwhile, which is the faster way on a quiet machine. On a busy one they waste
the time that the system grants to this process, until one of them is taken off its processor in the midst of its part,
for which all others wait: a step may take ten times as long as with threads that sleep.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

# Linux: "some avg10=1.53 ...", how many percent of the last ten seconds somebody waited for a processor
# (https://docs.kernel.org/accounting/psi.html). Others do not tell.
_PRESSURE = Path("/proc/pressure/cpu")
_BUSY = 25.0  # percent

_WAIT_POLICY = "OMP_WAIT_POLICY"
_ASLEEP = "PASSIVE"
# Who has set one of these has decided.
_DECIDED_BY = (_WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def sleep_where_busy() -> None:
    """Let the threads of PyTorch sleep while they wait, where the machine is busy now.

    For a process of our own. It does nothing once torch is imported: OpenMP reads the environment when it is loaded. No
    number that is computed depends on it.
    """
    decided = "torch" in sys.modules or any(name in os.environ for name in _DECIDED_BY)
    if not decided and _pressure() >= _BUSY:
        os.environ[_WAIT_POLICY] = _ASLEEP


def threads_are_asleep() -> bool:
    """Whether threads sleep while they wait."""
    return os.environ.get(_WAIT_POLICY, "").upper() == _ASLEEP


def _pressure() -> float:
    """Return how many percent of the last ten seconds somebody waited for a processor; 0 where nobody knows."""
    try:
        found = re.search(r"^some avg10=(\d+\.\d+)", _PRESSURE.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return 0.0
    return float(found[1]) if found else 0.0
