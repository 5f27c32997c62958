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

_LINES = "some avg10={:.2f} avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
_BUSY, _QUIET = _LINES.format(98.79), _LINES.format(2.5)

Asked = Callable[..., bool]


def times(*processors: tuple[int, int]) -> str:
    """What Linux says of processors that were at work, and idle, for so many ticks."""
    lines = [f"cpu{number} {work} 0 0 {idle} 0 0 0 0 0 0" for number, (work, idle) in enumerate(processors)]
    return "\n".join(["cpu  1 2 3 4 5 6 7 8 9 10", *lines, "intr 1 2 3", ""])


@pytest.fixture
def are_asleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Ask on a machine of two processors, as a process that has not imported torch."""
    monkeypatch.delitem(sys.modules, "torch")
    for name in (*busy_machine._DECIDED_BY, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(busy_machine, "available_processors", lambda: 2)
    monkeypatch.setattr(busy_machine.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)

    def ask(pressure: str | None = None, before: str = "", after: str = "") -> bool:
        (tmp_path / "stat").write_text(before)
        if pressure is not None:
            (tmp_path / "pressure").write_text(pressure)
        monkeypatch.setattr(busy_machine, "_PRESSURE", tmp_path / "pressure")
        monkeypatch.setattr(busy_machine, "_TIMES", tmp_path / "stat")
        monkeypatch.setattr(busy_machine.time, "sleep", lambda _: (tmp_path / "stat").write_text(after))
        sleep_where_busy()
        return threads_are_asleep()

    return ask


def test_they_sleep_where_somebody_has_waited_for_a_processor(are_asleep: Asked) -> None:
    assert are_asleep(_BUSY)


@pytest.mark.parametrize(
    ("first", "second", "asleep"),
    [
        ((0, 20), (0, 20), False),
        ((20, 0), (0, 20), True),
        ((6, 14), (6, 14), True),  # 0.6 processors
        ((4, 16), (4, 16), False),
        ((0, 0), (0, 0), False),  # no tick meanwhile
    ],
)
def test_they_sleep_where_others_work_on_half_a_processor_or_more(
    are_asleep: Asked, first: tuple[int, int], second: tuple[int, int], *, asleep: bool
) -> None:
    before = times((100, 900), (500, 500), (7, 7))
    after = times(
        (100 + first[0], 900 + first[1]), (500 + second[0], 500 + second[1]), (27, 7)
    )  # the third is none of ours
    assert are_asleep(_QUIET, before, after) == asleep


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


@pytest.mark.parametrize("pressure", [None, "", "some avg10=much", "avg10=99.00"])
def test_a_system_that_does_not_tell_is_taken_for_quiet(are_asleep: Asked, pressure: str | None) -> None:
    assert not are_asleep(pressure)


def test_a_system_without_affinity_is_taken_for_quiet(
    are_asleep: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(busy_machine.os, "sched_getaffinity")
    assert not are_asleep(_QUIET, times((0, 10)), times((20, 10)))


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
    (tmp_path / "pressure").write_text(_BUSY)
    code = f"""
import sys
from pathlib import Path
from vae_training import busy_machine
busy_machine._PRESSURE, busy_machine.available_processors = Path(sys.argv.pop(1)), lambda: 2
from {module}.cli import main
main()
"""
    finished = run_python(
        code, tmp_path / "pressure", *arguments, OMP_DISPLAY_ENV="VERBOSE", OMP_NUM_THREADS="2"
    )
    assert "GOMP_SPINCOUNT = '0'" in finished.stderr
