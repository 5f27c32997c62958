"""A process that trains keeps the memory that its steps take and free."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from vae_training import allocator
from vae_training.allocator import keep_freed_memory

_COUNT_FAULTS = """
import ctypes, resource, sys
from vae_training.allocator import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def step():
    blocks = [libc.malloc(1 << 20) for _ in range(8)]
    for block in blocks:
        libc.memset(block, 1, 1 << 20)
    for block in blocks:
        libc.free(block)

if sys.argv[1] == "keep":
    keep_freed_memory()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
_PAGES_OF_A_STEP = (8 << 20) // 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's allocator")
def test_steps_do_not_fetch_anew_what_they_have_freed() -> None:
    assert _faults("keep") < _PAGES_OF_A_STEP
    assert _faults("leave") > 10 * _PAGES_OF_A_STEP


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    keep_freed_memory()


def test_so_is_a_system_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: None) -> ctypes.CDLL:
        raise TypeError("expected a name")  # as on Windows

    monkeypatch.setattr(allocator.ctypes, "CDLL", refuse)
    keep_freed_memory()


def _faults(how: str) -> int:
    told = subprocess.run(
        [sys.executable, "-c", _COUNT_FAULTS, how], capture_output=True, text=True, check=True, timeout=120
    )
    return int(told.stdout)
