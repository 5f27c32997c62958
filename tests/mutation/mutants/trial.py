"""Tests run in a forked process that has their libraries imported already, within limits of time and memory.

Starting Python and importing numpy, onnxruntime and PyTorch anew for each of two thousand mutants would take hours.
Nothing of the project itself may be imported before the fork: the tests import it from the copy, as it stands there.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

PASSED, FAILED, TIMED_OUT = "passed", "failed", "timed out"

_MEMORY = 2 << 30  # more than is taken at the fork: what has no end must not take all that the machine has

# What was imported before the fork cannot be rewritten, and pytest says so.
_OPTIONS = (
    "-x", "-q", "--tb=line", "-p", "no:xdist", "-p", "no:benchmark", "-p", "no:hypothesispytest",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip


class _Profile:
    """Takes the place of Hypothesis' own plugin, which reads every library's source at each start."""

    def pytest_collection(self) -> None:
        hypothesis.settings.load_profile("mutants")


class Limits(NamedTuple):
    """In seconds."""

    processor: float
    """Of what computes without end, however busy the machine is."""
    clock: float
    """Of what waits without end."""


WIDE = Limits(600, 1200)


class Ended(NamedTuple):
    """How the tests ended."""

    how: str
    processor: float
    clock: float
    output: str


def prepare(libraries: Iterable[str]) -> None:
    """Import what tests import, where it is installed."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.dont_write_bytecode = False  # tests are compiled once, whatever the environment says
    for name in libraries:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # As the tests' own, but a failure needs no simple example.
    hypothesis.settings.register_profile(
        "mutants",
        deadline=None,
        database=None,
        max_examples=50,
        derandomize=True,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    gc.collect()
    gc.freeze()  # pytest collects garbage at its end, which is not to go through all libraries


def run_tests(root: Path, tests: Sequence[str], limits: Limits, log: Path) -> Ended:
    """Run pytest in a folder, up to the first test that fails."""
    sys.stdout.flush()
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        _be_pytest(root, tests, limits, log)
    status, usage = None, None
    try:
        while status is None and time.monotonic() - began < limits.clock:
            found, code, usage = os.wait4(process, os.WNOHANG)
            status = code if found else None
            time.sleep(0 if found else 0.01)
    finally:
        # Those that the tests started and left behind, too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        if status is None:
            os.kill(process, signal.SIGKILL)
            _, _, usage = os.wait4(process, 0)
    used = usage.ru_utime + usage.ru_stime if usage else 0.0
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        how = TIMED_OUT
    else:
        how = PASSED if status == 0 else FAILED
    return Ended(how, used, time.monotonic() - began, log.read_text(errors="replace"))


def _be_pytest(root: Path, tests: Sequence[str], limits: Limits, log: Path) -> None:
    code = 70
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for standard in (1, 2):
            os.dup2(file, standard)
        _limit(resource.RLIMIT_CPU, int(limits.processor) + 1)
        taken = Path("/proc/self/statm")
        if taken.exists():
            _limit(resource.RLIMIT_AS, int(taken.read_text().split()[0]) * resource.getpagesize() + _MEMORY)
        os.chdir(root)
        sys.path[0] = ""  # not the folder of this program
        code = int(pytest.main([*_OPTIONS, *tests], [_Profile()]))
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - this is the end of the process, which must not go on as its parent
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(what, (most, hard))
