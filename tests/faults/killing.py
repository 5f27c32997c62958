"""SIGKILL while something is being written: at every call of the file system, and at any moment.

result = kill_during("bundle", times=100)
assert not result.torn and not result.left
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from writers import NAIVE, WRITERS, digest, strays

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Result:
    """What was found after so many kills."""

    writer: str
    kills: int = 0
    old: int = 0
    """Times that the output was still the old one, whole."""
    new: int = 0
    """Times that it was the new one already, whole."""
    put_back: int = 0
    """Times that it was missing until the next process put it back: where folders cannot be exchanged."""
    torn: list[str] = field(default_factory=list)
    """When it was neither."""
    left: list[str] = field(default_factory=list)
    """What the next write, which must succeed, did not sweep away; and what went wrong with it."""


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    """-9 where it was killed."""
    calls: int
    """Of the file system, where it came to its end."""
    seconds: float


class WriterServer:
    """A process that forks others to write, so that each starts at once."""

    def __enter__(self) -> WriterServer:
        self._folder = tempfile.TemporaryDirectory(prefix="faults-")
        self.log = Path(self._folder.name) / "log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        paths = [str(ROOT / package) for package in ("training", "export", "runtime")]
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("writers.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**inherited, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=60)
        self._folder.cleanup()

    def write(
        self,
        writer: str,
        folder: Path,
        version: int,
        *,
        kill_at: int | None = None,
        kill_after: float | None = None,
    ) -> Ended:
        """Let a process write.

        Args:
            writer: a name in WRITERS.
            folder: where to.
            version: 0 or 1.
            kill_at: the process kills itself before this call of the file system, counted from 1.
            kill_after: it is killed this many seconds after it began.
        """
        order = {"writer": writer, "folder": str(folder), "version": version, "kill_at": kill_at}
        return self._order(order, signal.SIGKILL, kill_after)

    def train(
        self,
        folder: Path,
        *arguments: object,
        kill_at: int | None = None,
        kill_after: float | None = None,
    ) -> Ended:
        """Let a process run `vae-train` with arguments in a folder; killed as by `write`."""
        order = {"arguments": [str(each) for each in arguments], "folder": str(folder), "kill_at": kill_at}
        return self._order(order, signal.SIGKILL, kill_after)

    def _order(self, order: dict[str, object], number: signal.Signals, after: float | None) -> Ended:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({**order, "log": str(self.log)}) + "\n")
        self._server.stdin.flush()
        told = {"calls": 0}
        began = time.perf_counter()
        while "ended" not in told:
            what, said = self._hear()
            told[what] = said
            if what == "began":
                began = time.perf_counter()
            if after is not None and {"began", "process"} <= told.keys():
                time.sleep(max(0.0, began + after - time.perf_counter()))
                # Until the server says that it ended, the number stands for this process and no other, unless
                # it has ended in this very moment; then there is nobody yet of the same number.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(told["process"], number)
                after = None
        return Ended(told["ended"], told["calls"], time.perf_counter() - began)

    def _hear(self) -> tuple[str, int]:
        assert self._server.stdout is not None
        what, number = self._server.stdout.readline().split()
        return what, int(number)


def kill_during(writer: str, times: int, server: WriterServer | None = None, seed: int = 0) -> Result:
    """Kill a writer so many times in the middle, and look at what is there after each.

    Every other time it is killed at a certain call of the file system, one after another, so that all come
    in turn; the other times at a random moment.
    """
    if server is None:
        with WriterServer() as new_server:
            return kill_during(writer, times, new_server, seed)
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        return _Killing(writer, Path(name), server, seed).times(times)


class _Killing:
    def __init__(self, name: str, folder: Path, server: WriterServer, seed: int) -> None:
        self.name, self.writer = name, {**WRITERS, **NAIVE}[name]
        self.folder = folder / "work"
        self.server = server
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.result = Result(name)
        self.whole: list[str] = []
        self.folder.mkdir()
        # What is whole, from processes that nobody kills; the second one replaces, as all the later ones do.
        for version in (0, 1):
            code, self.calls, self.seconds = server.write(name, self.folder, version)
            assert code == 0, server.log.read_text()
            self.whole.append(digest(self.folder / self.writer.target))
        assert self.whole[0] != self.whole[1]
        assert self.calls > 3
        self.version = 1

    def times(self, times: int) -> Result:
        attempts = 0
        while self.result.kills < times:
            attempts += 1
            assert attempts < 20 * times + 100, f"{self.name}: too fast to be killed"
            if self._kill(attempts):
                self.result.kills += 1
                self._look(attempts)
            self._write_again()
        return self.result

    def _kill(self, attempt: int) -> bool:
        if attempt % 2:
            # In strides that visit all calls before any for the second time, and the later ones soon.
            stride = next(n for n in range(self.calls * 5 // 8, 0, -1) if math.gcd(n, self.calls) == 1)
            how: dict[str, object] = {"kill_at": (attempt // 2 * stride + self.calls // 2) % self.calls + 1}
        else:
            how = {"kill_after": self.random.uniform(0, self.seconds)}
        self.how = str(how)
        code, _, _ = self.server.write(self.name, self.folder, 1 - self.version, **how)
        assert code in (0, -signal.SIGKILL), self.server.log.read_text()
        return code == -signal.SIGKILL

    def _look(self, attempt: int) -> None:
        found = digest(self.folder / self.writer.target)
        if found == self.whole[self.version]:
            self.result.old += 1
        elif found == self.whole[1 - self.version]:
            self.result.new += 1
        elif found == "missing" and self._is_put_back():
            self.result.put_back += 1
        else:
            self.result.torn.append(f"kill {attempt} ({self.how}): {found}")

    def _is_put_back(self) -> bool:
        """Tell whether the next process that writes beside the output puts the old one back."""
        from vae_runtime.scratch import sweep

        sweep((self.folder / self.writer.target).parent)
        return "moved" in self.name and digest(self.folder / self.writer.target) == self.whole[self.version]

    def _write_again(self) -> None:
        self.version = 1 - self.version
        code, _, _ = self.server.write(self.name, self.folder, self.version)
        if code != 0:
            self.result.left.append(f"after {self.how} the next write failed with {code}")
        if digest(self.folder / self.writer.target) != self.whole[self.version]:
            self.result.left.append(f"after {self.how} the next write did not replace what was there")
        self.result.left += [f"{stray} after {self.how}" for stray in strays(self.folder, self.writer)]
