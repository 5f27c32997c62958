"""How many threads may work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import InputError, threads

HAS_AFFINITY = hasattr(os, "sched_getaffinity")


@pytest.fixture
def processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Eight processors by affinity, and no control group unless a test writes its files."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name in ("_CGROUP_V2", "_CGROUP_V1_QUOTA", "_CGROUP_V1_PERIOD"):
        monkeypatch.setattr(threads, name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"_CGROUP_V2": "max 100000\n"}, 8),
        ({"_CGROUP_V2": "200000 100000\n"}, 2),
        ({"_CGROUP_V2": "150000 100000\n"}, 2),
        ({"_CGROUP_V2": "10000 100000\n"}, 1),
        ({"_CGROUP_V2": "6400000 100000\n"}, 8),
        ({"_CGROUP_V2": ""}, 8),
        ({"_CGROUP_V2": "garbage\n"}, 8),
        ({"_CGROUP_V2": "200000 0\n"}, 8),
        ({"_CGROUP_V1_QUOTA": "300000\n", "_CGROUP_V1_PERIOD": "100000\n"}, 3),
        ({"_CGROUP_V1_QUOTA": "-1\n", "_CGROUP_V1_PERIOD": "100000\n"}, 8),
        ({"_CGROUP_V1_QUOTA": "300000\n"}, 8),
        ({"_CGROUP_V2": "100000 100000\n", "_CGROUP_V1_QUOTA": "3", "_CGROUP_V1_PERIOD": "1"}, 1),
    ],
    ids=str,
)
def test_the_container_quota_bounds_the_processors(
    processors: Path, files: dict[str, str], count: int
) -> None:
    for name, text in files.items():
        (processors / name).write_text(text)
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
