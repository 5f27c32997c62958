"""Readers with a fault planted in each, to see that the fuzzer finds it. Run like the fuzzer itself."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fuzzer.blind import blind_mutations
from fuzzer.command import main
from fuzzer.target import READ, Reader, Target

SEED = b"a file without the magic byte in it"
MAGIC = 0xFF


def crash() -> None:
    """Read where nothing is, as C code with a fault in it does."""
    ctypes.string_at(0)


def open_a_canary() -> None:
    Path("canary").read_bytes()


def open_a_canary_above_past_python() -> None:
    """Open it with the C library's own function, as onnxruntime would."""
    libc = ctypes.CDLL(None)
    os.close(libc.open(b"../canary", os.O_RDONLY))


def open_another_file() -> None:
    Path("/etc/hostname").exists()
    os.close(os.open("/", os.O_RDONLY))


def leave_a_file() -> None:
    libc = ctypes.CDLL(None)
    os.close(libc.open(b"stray", os.O_CREAT | os.O_WRONLY, 0o600))


def wait_for_ever() -> None:
    while True:
        time.sleep(60)


def take_all_memory() -> None:
    bytearray(1 << 34)


def raise_a_foreign_error() -> None:
    raise KeyError("not one of ours")


def leave() -> None:
    os._exit(0)


def _reader_with(fault: Callable[[], None]) -> Callable[[], Reader]:
    def prepare() -> Reader:
        blind = blind_mutations([SEED])

        def read(folder: Path) -> str:
            if MAGIC in (folder / "file").read_bytes():
                fault()
            return READ

        return Reader({"seed": {"file": SEED}}, lambda draw: {"file": draw.choice(blind)(SEED, draw)}, read)

    return prepare


def stand_still_once() -> None:
    """Do as a processor does that its machine's owner needs elsewhere."""
    if not _stood_still[0]:
        _stood_still[0] = 1
        wait_for_ever()


def stand_still_twice() -> None:
    """Do so again for the next mutant, once the first was read again."""
    asked = _stood_still[1]
    _stood_still[1] = min(asked + 1, 9)
    if asked in (0, 2):
        wait_for_ever()


_stood_still = mmap.mmap(-1, 2)  # shared with the processes that are forked


def _nothing() -> None:
    """Do as a reader without a fault does."""


FAULTS = (
    crash,
    open_a_canary,
    open_a_canary_above_past_python,
    open_another_file,
    leave_a_file,
    wait_for_ever,
    take_all_memory,
    raise_a_foreign_error,
    leave,
)
TARGETS = {
    fault.__name__: Target(fault.__name__, 1.0, _reader_with(fault))
    for fault in (*FAULTS, stand_still_once, stand_still_twice, _nothing)
}

if __name__ == "__main__":
    sys.exit(main(TARGETS))
