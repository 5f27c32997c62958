"""Workers over one target: started, watched, started again after a death, and their findings written down."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fuzzer.target import Files, Reader, Target
from fuzzer.worker import FUZZER_FAILED, Board, Range, findings_of, fork_replay, fork_worker, mutant, trace_of

HANG = 5.0  # seconds for one mutant
_LOOK = 0.02  # seconds between two looks at the workers
_KEPT = 3  # mutants of each kind of finding that are written down
_MOST_DEATHS = 200  # after so many a campaign ends: what is wrong is known by then
_FOR_EVER = 1 << 60
_SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private folder is made in it


@dataclass(frozen=True)
class Finding:
    """A mutant that did what no mutant may."""

    target: str
    index: int
    why: str
    path: Path | None
    """The folder with the mutant's files; None where enough of the same kind were written down before."""

    @property
    def kind(self) -> str:
        """What findings of one cause have in common: their words but for numbers and names."""
        return re.sub(r"'[^']*'|\d+", "#", self.why.split("\n\n")[0])[:160]


@dataclass
class Result:
    """What came of a campaign."""

    target: str
    seed: int
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    stalled: int = 0
    """Mutants that took too long once, and not when they were read again by themselves: the machine's doing."""

    @property
    def mutants(self) -> int:
        return sum(self.counts.values()) + len(self.findings) + self.stalled


def run_campaign(
    target: Target,
    seed: int,
    findings: Path,
    *,
    seconds: float | None = None,
    mutants: int | None = None,
    workers: int = 2,
    hang: float = HANG,
) -> Result:
    """Read mutants of `target` for so long, or so many of them.

    Args:
        target: what reads them.
        seed: the same seed, the same mutants.
        findings: where mutants that fail are written.
        seconds: for how long.
        mutants: how many.
        workers: processes beside each other.
        hang: seconds that one mutant may take.
    """
    reader = target.prepare()
    result = Result(target.name, seed)
    began = time.monotonic()
    deadline = began + seconds if seconds is not None else float("inf")
    end = _FOR_EVER if mutants is None else mutants
    with tempfile.TemporaryDirectory(prefix="vae-edge-fuzz-", dir=_SCRATCH) as scratch:
        crews = [
            _Crew(
                target, reader, Range(seed, number, workers, end, deadline), Path(scratch, str(number)), hang
            )
            for number in range(workers)
        ]
        try:
            while sum(crew.tend() for crew in crews):  # all of them, each time
                time.sleep(_LOOK)
        finally:
            for crew in crews:
                crew.dismiss()
        result.seconds = time.monotonic() - began
        written: Counter[str] = Counter()
        for crew in crews:
            result.counts.update(crew.counts)
            result.stalled += crew.stalled
            for index, why in crew.found:
                finding = Finding(target.name, index, why, None)
                written[finding.kind] += 1
                if written[finding.kind] <= _KEPT:
                    files = mutant(target.name, reader, seed, index)
                    finding = Finding(
                        target.name, index, why, _write_down(findings, target.name, seed, index, why, files)
                    )
                result.findings.append(finding)
    return result


def replay(target: Target, folder: Path, *, hang: float = HANG) -> str:
    """Read one mutant again, in a process of its own. Return why it fails; nothing where it does not."""
    reader = target.prepare()
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != _NOTE}
    with tempfile.TemporaryDirectory(prefix="vae-edge-fuzz-", dir=_SCRATCH) as scratch:
        return _replay(reader, files, Path(scratch, "replay"), hang)


_NOTE = "finding.txt"


class _Crew:
    """One worker after another on one range of mutants."""

    def __init__(self, target: Target, reader: Reader, which: Range, home: Path, hang: float) -> None:
        self.counts: Counter[str] = Counter()
        self.found: list[tuple[int, str]] = []
        self.stalled = 0
        self._target, self._reader, self._which, self._home, self._hang = target, reader, which, home, hang
        self._deaths = 0
        self._child: int | None = None
        self._start(which.start)

    def tend(self) -> bool:
        """Look after the worker; tell whether there is one still."""
        if self._child is None:
            return False
        hung = self._board.seconds_at_hand > self._hang
        if hung:
            os.kill(self._child, signal.SIGABRT)  # faulthandler says then where Python was
            self._reap_within(1.0)
            os.kill(self._child, signal.SIGKILL)
        pid, status = os.waitpid(self._child, 0 if hung else os.WNOHANG)
        if pid == 0:
            return True
        self._child = None
        self._take_stock()
        code = os.waitstatus_to_exitcode(status)
        if code == 0 and not self._board.busy:
            return False
        self._died(code, hung=hung)
        return self._child is not None

    def dismiss(self) -> None:
        """End a worker that is still there."""
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._child = None
            self._take_stock()

    def _died(self, code: int, *, hung: bool) -> None:
        index = self._board.at_hand
        if code == FUZZER_FAILED or index < 0:
            raise RuntimeError(
                f"{self._target.name}: the fuzzer itself failed after mutant {index} ({_name_of(code)})"
            )
        if hung and not self._hangs_again(index):
            self.stalled += 1
        else:
            trace = trace_of(self._home)
            what = f"hang: not done after {self._hang:g} s" if hung else f"death: {_name_of(code)}"
            where = _innermost(trace)
            self.found.append((index, f"{what}\n{where}\n\n{trace}"))
        self._deaths += 1
        if self._deaths < _MOST_DEATHS:
            self._start(index + self._which.step)

    def _hangs_again(self, index: int) -> bool:
        """Read the mutant by itself: processors of shared machines stand still for seconds at times."""
        files = mutant(self._target.name, self._reader, self._which.seed, index)
        home = self._home.with_name(f"{self._home.name}, again")
        shutil.rmtree(home, ignore_errors=True)  # of one before
        return bool(_replay(self._reader, files, home, self._hang))

    def _start(self, index: int) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        self._board = Board()
        self._board.began(-1)
        self._board.ended()
        which = self._which._replace(start=index)
        self._child = fork_worker(self._target.name, self._reader, which, self._board, self._home)

    def _take_stock(self) -> None:
        self.counts.update(self._board.counts)
        self.found += findings_of(self._home).items()

    def _reap_within(self, seconds: float) -> None:
        """Give a worker the time to say where it was."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not _is_zombie(self._child):
            time.sleep(_LOOK)


def _replay(reader: Reader, files: Files, home: Path, hang: float) -> str:
    board = Board()
    board.began(-1)
    board.ended()
    child = fork_replay(reader, files, board, home)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if board.seconds_at_hand > hang:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"hang: not done after {hang:g} s"
        time.sleep(_LOOK)
    code = os.waitstatus_to_exitcode(status)
    if code == FUZZER_FAILED or board.at_hand < 0:
        raise RuntimeError("the fuzzer itself failed")
    return f"death: {_name_of(code)}" if board.busy else findings_of(home).get(0, "")


def _write_down(findings: Path, target: str, seed: int, index: int, why: str, files: Files) -> Path:
    folder = findings / f"{target}-{seed}-{index}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / _NOTE).write_text(f"{why}\nTo see it again:\n    {replay_command(target, folder)}\n")
    return folder


def replay_command(target: str, folder: Path) -> str:
    """Return the command line that reads one mutant again."""
    return shlex.join(
        [sys.executable, str(Path(sys.argv[0]).resolve()), "--replay", str(folder), "--target", target]
    )


def _name_of(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"left with code {code}"


def _innermost(trace: str) -> str:
    lines = [line.strip() for line in trace.splitlines() if line.startswith("  File")]
    return " < ".join(re.sub(r'File ".*/|"', "", line) for line in lines[:3])


def _is_zombie(pid: int | None) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
