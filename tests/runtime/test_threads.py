"""How many threads may work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import InputError, control_groups, threads

HAS_AFFINITY = hasattr(os, "sched_getaffinity")


V2, V1 = "sys/fs/cgroup/", "sys/fs/cgroup/cpu/"
GROUPS = "proc/self/cgroup"


@pytest.fixture
def processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Eight processors by affinity; the root of a system without control groups unless a test writes some."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(control_groups, "ROOT", tmp_path)
    return tmp_path


def quota_1(quota: str, period: str = "100000\n", group: str = "") -> dict[str, str]:
    return {f"{V1}{group}cpu.cfs_quota_us": quota, f"{V1}{group}cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({V2 + "cpu.max": "max 100000\n"}, 8),
        ({V2 + "cpu.max": "200000 100000\n"}, 2),
        ({V2 + "cpu.max": "150000 100000\n"}, 2),
        ({V2 + "cpu.max": "10000 100000\n"}, 1),
        ({V2 + "cpu.max": "6400000 100000\n"}, 8),
        ({V2 + "cpu.max": ""}, 8),
        ({V2 + "cpu.max": "garbage\n"}, 8),
        ({V2 + "cpu.max": "\N{SNOWMAN} 1\n"}, 8),
        ({V2 + "cpu.max": "200000 0\n"}, 8),
        ({V2 + "cpu.max": "-5 100000\n"}, 8),
        (quota_1("300000\n"), 3),
        (quota_1("-1\n"), 8),
        (quota_1("\N{SNOWMAN}"), 8),
        ({V1 + "cpu.cfs_quota_us": "300000\n"}, 8),
        ({V2 + "cpu.max": "100000 100000\n", **quota_1("3", "1")}, 1),
        # A service of systemd: the process is told which group it is in, and a group above may allow less.
        ({GROUPS: "0::/user.slice/a.service\n", V2 + "user.slice/a.service/cpu.max": "300000 100000\n"}, 3),
        ({GROUPS: "0::/user.slice/a.service\n", V2 + "user.slice/cpu.max": "200000 100000\n",
          V2 + "user.slice/a.service/cpu.max": "300000 100000\n"}, 2),
        ({GROUPS: "0::/user.slice/a.service\n", V2 + "user.slice/b.service/cpu.max": "100000 100000\n"}, 8),
        ({GROUPS: "4:memory:/a\n1:cpu,cpuacct:/a\n0::/\n", **quota_1("200000", group="a/")}, 2),
        # A container that is told its path outside, which does not exist within.
        ({GROUPS: "1:cpu:/docker/abc\n0::/\n", **quota_1("200000")}, 2),
        ({GROUPS: "0::/../../other\n", V2 + "cpu.max": "200000 100000\n"}, 2),
        ({GROUPS: "1:cpuset:/a\n", **quota_1("200000")}, 8),
        ({GROUPS: "nonsense\n", **quota_1("200000")}, 8),
    ],
    ids=str,
)  # fmt: skip
def test_the_control_groups_bound_the_processors(processors: Path, files: dict[str, str], count: int) -> None:
    for name, text in files.items():
        (processors / name).parent.mkdir(parents=True, exist_ok=True)
        (processors / name).write_text(text, encoding="utf-8")
    assert threads.available_processors() == count
    assert threads.thread_count() == count


def test_without_affinity_every_processor_counts(processors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.available_processors() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available_processors() == 1


@pytest.mark.skipif(not HAS_AFFINITY, reason="this system has no processor affinity")
def test_a_process_bound_to_one_processor_uses_one(run_python: Any) -> None:
    finished = run_python(
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from vae_runtime.threads import thread_count; print(thread_count())"
    )
    assert finished.stdout == "1\n", finished.stderr


def test_a_number_given_is_the_number_used() -> None:
    assert threads.thread_count(1) == 1
    assert threads.thread_count(300) == 300


@pytest.mark.parametrize("bad", [0, -1, 1.0, "2", True])
def test_what_is_not_a_number_of_threads_is_refused(bad: Any) -> None:
    with pytest.raises(InputError, match=r"threads is .*; expected a whole number of at least 1, or None"):
        threads.thread_count(bad)
