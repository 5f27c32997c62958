"""What a process takes of the machine."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import NamedTuple

import psutil


class Held(NamedTuple):
    """What this process holds."""

    megabytes: float
    descriptors: int
    threads: int


def held_now() -> Held:
    gc.collect()
    process = psutil.Process()
    return Held(process.memory_info().rss / 1e6, process.num_fds(), process.num_threads())


def peak_megabytes() -> float:
    """Return the most memory that this process has held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("/proc/self/status says nothing of VmHWM")
