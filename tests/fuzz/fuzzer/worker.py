"""A forked child that reads mutant after mutant, and tells its parent through shared memory which one is at hand."""

from __future__ import annotations

import faulthandler
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple, NoReturn

from fuzzer.blind import randomness
from fuzzer.target import OUTCOMES, REFUSED, Files, Reader
from fuzzer.watch import Arena, Watch

_MEMORY = 1 << 30  # bytes of address space beyond what the worker has at its start
_TRACE = "trace.txt"
_FINDINGS = "findings"

_AT_HAND, _SINCE, _BUSY, _COUNTS = 0, 8, 16, 24
_BOARD = 4096

FUZZER_FAILED = 70  # what a worker leaves with when it is not the reader that failed


class Range(NamedTuple):
    """Which mutants a worker makes: those from `start` on, in steps of `step`, below `end`, until `deadline`."""

    seed: int
    start: int
    step: int
    end: int
    deadline: float
    """By `time.monotonic`."""


class Board:
    """What a worker tells: the mutant at hand, since when, and how often each outcome came."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BOARD)

    def began(self, index: int) -> None:
        struct.pack_into("<qdq", self._memory, _AT_HAND, index, time.monotonic(), 1)

    def ended(self) -> None:
        struct.pack_into("<q", self._memory, _BUSY, 0)

    def count(self, outcome: str) -> None:
        at = _COUNTS + 8 * OUTCOMES.index(outcome)
        struct.pack_into("<q", self._memory, at, struct.unpack_from("<q", self._memory, at)[0] + 1)

    @property
    def at_hand(self) -> int:
        index: int = struct.unpack_from("<q", self._memory, _AT_HAND)[0]
        return index

    @property
    def busy(self) -> bool:
        """Tell whether a mutant is being read."""
        return bool(struct.unpack_from("<q", self._memory, _BUSY)[0])

    @property
    def seconds_at_hand(self) -> float:
        """How long the mutant at hand has been read; 0 between two."""
        since: float = struct.unpack_from("<d", self._memory, _SINCE)[0]
        return time.monotonic() - since if self.busy else 0.0

    @property
    def counts(self) -> dict[str, int]:
        return dict(
            zip(OUTCOMES, struct.unpack_from(f"<{len(OUTCOMES)}q", self._memory, _COUNTS), strict=True)
        )


def mutant(target: str, reader: Reader, seed: int, index: int) -> Files:
    """Return the mutant of that number: the same one wherever and whenever it is made."""
    return reader.mutate(randomness(seed, target, index))


def fork_worker(target: str, reader: Reader, which: Range, board: Board, home: Path) -> int:
    """Start a worker; return its process id. It ends by itself with code 0."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _end_with(lambda: _read_all(target, reader, which, board, home))
    return child


def fork_replay(reader: Reader, files: Files, board: Board, home: Path) -> int:
    """Start a worker that reads one mutant; return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _end_with(lambda: _read_one(reader, files, board, home))
    return child


def findings_of(home: Path) -> dict[int, str]:
    """Return what a worker found and lived to tell: why, by the mutant's number."""
    folder = home / _FINDINGS
    if not folder.is_dir():
        return {}
    return {int(path.name): path.read_text() for path in sorted(folder.iterdir())}


def trace_of(home: Path) -> str:
    """Return where Python was when a worker died of a signal."""
    path = home / _TRACE
    return path.read_text(errors="replace") if path.exists() else ""


def _end_with(work: object) -> NoReturn:
    code = FUZZER_FAILED
    try:
        assert callable(work)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - a forked child must not go on in its parent's code
        traceback.print_exc()
    finally:
        os._exit(code)


def _settle(reader: Reader, board: Board, home: Path) -> tuple[Arena, Watch]:
    """Make this process one whose death, hunger and trespasses will show."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's matter
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    (home / _FINDINGS).mkdir(parents=True)
    faulthandler.enable((home / _TRACE).open("w"))
    arena = Arena(home / "arena")
    os.chdir(arena.cwd)
    # Whatever is imported or built when first used is so now, and does not look like a trespass later.
    from vae_runtime.errors import VaeError

    warnings.simplefilter(
        "error"
    )  # as hosts may have it; a warning of ours would be an error of no kind of ours
    for files in reader.seeds.values():
        arena.lay(files)
        try:
            reader.read(arena.mutant)
        except VaeError:
            continue
    board.ended()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * mmap.PAGESIZE + _MEMORY,) * 2)
    return arena, Watch(arena)


def _read_all(target: str, reader: Reader, which: Range, board: Board, home: Path) -> None:
    arena, watch = _settle(reader, board, home)
    index = which.start
    while index < which.end and time.monotonic() < which.deadline:
        files = mutant(target, reader, which.seed, index)
        board.began(index)
        why = _read(reader, files, board, arena, watch)
        board.ended()
        if why:
            (home / _FINDINGS / str(index)).write_text(why)
        index += which.step


def _read_one(reader: Reader, files: Files, board: Board, home: Path) -> None:
    arena, watch = _settle(reader, board, home)
    board.began(0)
    why = _read(reader, files, board, arena, watch)
    board.ended()
    if why:
        (home / _FINDINGS / "0").write_text(why)


def _read(reader: Reader, files: Files, board: Board, arena: Arena, watch: Watch) -> str:
    """Read one mutant. Return what was wrong about that, or nothing."""
    from vae_runtime.errors import VaeError

    try:
        arena.lay(files)
        with watch:
            try:
                outcome = reader.read(arena.mutant)
            except VaeError:
                outcome = REFUSED
        watch.complain()
        board.count(outcome)
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        trace = traceback.extract_tb(error.__traceback__)
        place = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(trace[-4:]))
        return f"{type(error).__name__}: {str(error)[:500]}\n{place}\n"
    return ""
