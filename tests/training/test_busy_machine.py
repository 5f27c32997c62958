"""Where others want the processors as well, threads sleep while they wait."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_training import busy_machine
from vae_training.busy_machine import sleep_where_busy, threads_are_asleep

Asked = Callable[..., bool]


def times(*processors: tuple[int, int, int]) -> str:
    """What Linux says of processors that were at work, at nice work, and idle, for so many ticks."""
    lines = [
        f"cpu{number} {work} {nice} 0 {idle} 0 0 0 0 0 0"
        for number, (work, nice, idle) in enumerate(processors)
    ]
    return "\n".join(["cpu  1 2 3 4 5 6 7 8 9 10", *lines, "intr 1 2 3", ""])


_BEFORE = times((100, 30, 900), (500, 0, 500), (7, 7, 7))
_BUSY = times((120, 30, 900), (500, 0, 520), (7, 7, 27))
_QUIET = times((100, 30, 920), (500, 0, 520), (27, 7, 7))  # the third is none of this process's


@pytest.fixture
def are_asleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Ask on a machine of two processors, as a process that has not imported torch."""
    monkeypatch.delitem(sys.modules, "torch")
    for name in (*busy_machine._DECIDED_BY, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(busy_machine, "available_processors", lambda: 2)
    monkeypatch.setattr(busy_machine.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)

    def ask(after: str, before: str = _BEFORE) -> bool:
        (tmp_path / "stat").write_text(before)
        monkeypatch.setattr(busy_machine, "_TIMES", tmp_path / "stat")
        monkeypatch.setattr(busy_machine.time, "sleep", lambda _: (tmp_path / "stat").write_text(after))
        sleep_where_busy()
        return threads_are_asleep()

    return ask


@pytest.mark.parametrize(
    ("work", "nice", "asleep"),
    [
        ((0, 0), (0, 0), False),
        ((20, 0), (0, 0), True),
        ((6, 6), (0, 0), True),  # 0.6 processors
        ((4, 4), (0, 0), False),
        ((0, 0), (20, 20), False),
        ((4, 4), (16, 16), False),
        ((10, 10), (10, 10), True),
    ],
)
def test_they_sleep_where_others_that_are_not_nice_work_on_half_a_processor_or_more(
    are_asleep: Asked, work: tuple[int, int], nice: tuple[int, int], *, asleep: bool
) -> None:
    spent = [(busy, polite, 20 - busy - polite) for busy, polite in zip(work, nice, strict=True)]
    assert are_asleep(times(*spent, (20, 0, 0)), times(*[(0, 0, 0)] * 3)) == asleep


@pytest.mark.parametrize(("name", "value"), [
    ("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "1000"), ("KMP_BLOCKTIME", "0"), ("OMP_NUM_THREADS", "1"),
])  # fmt: skip
def test_who_has_decided_is_left_alone(
    are_asleep: Asked, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not are_asleep(_BUSY)
    assert os.environ[name] == value


def test_one_thread_waits_for_none(are_asleep: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_machine, "available_processors", lambda: 1)
    assert not are_asleep(_BUSY)


@pytest.mark.parametrize(
    "after", ["", "nonsense", "cpu0", _BEFORE], ids=["nothing", "nonsense", "no numbers", "no tick"]
)
def test_a_system_that_does_not_tell_is_taken_for_quiet(are_asleep: Asked, after: str) -> None:
    assert not are_asleep(after)


def test_so_is_one_without_the_file(
    are_asleep: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(busy_machine, "read", lambda _: None)
    assert not are_asleep(_BUSY)


def test_so_is_one_without_affinity(are_asleep: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(busy_machine.os, "sched_getaffinity")
    assert not are_asleep(_BUSY)


def test_once_torch_is_there_it_is_too_late(are_asleep: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert not are_asleep(_BUSY)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another OpenMP, with other words")
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("vae_training", ["--dry-run", "--epochs", "1"]),
        ("vae_training", ["evaluate", "nowhere"]),
        ("vae_export", ["nowhere"]),
    ],
    ids=["vae-train", "vae-train evaluate", "vae-export"],
)
def test_every_command_that_computes_tells_openmp_in_time(
    run_python: Any, tmp_path: Path, module: str, arguments: list[str]
) -> None:
    """OpenMP shows what it was told when torch loads it: how often a thread looks before it sleeps."""
    before = tmp_path / "stat"
    before.write_text(_BEFORE)
    code = f"""
import sys
from pathlib import Path
from vae_training import busy_machine
busy_machine._TIMES, busy_machine.available_processors = Path(sys.argv.pop(1)), lambda: 2
busy_machine.os.sched_getaffinity = lambda _: {{0, 1}}
busy = sys.argv.pop(1)
busy_machine.time.sleep = lambda _: busy_machine._TIMES.write_text(busy)
from {module}.cli import main
main()
"""
    finished = run_python(code, before, _BUSY, *arguments, OMP_DISPLAY_ENV="VERBOSE", OMP_NUM_THREADS="2")
    assert "GOMP_SPINCOUNT = '0'" in finished.stderr
