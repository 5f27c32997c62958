"""Locks: one holder at a time, and none after its process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import locks
from vae_runtime.locks import Held, take, taken

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks that vanish with their process")

TRYING = """
import os, sys
from pathlib import Path
from vae_runtime.locks import take
held = take(Path(sys.argv[1]))
print("free" if held else "held", flush=True)
if sys.argv[2:] == ["and die"]:
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def held(path: Path) -> Iterator[Held]:
    found = take(path)
    assert found is not None
    yield found
    os.close(found.descriptor)


def test_another_process_does_not_get_what_is_held(path: Path, held: Held, run_python: Any) -> None:
    assert held.certain
    assert run_python(TRYING, path).stdout == "held\n"
    assert take(path) is None


def test_a_killed_process_holds_nothing(path: Path, run_python: Any) -> None:
    finished = run_python(TRYING, path, "and die")
    assert (finished.stdout, finished.returncode) == ("free\n", -9)
    assert path.exists()
    with taken(path) as held:
        assert held


def test_a_lock_that_is_given_up_leaves_no_file(path: Path) -> None:
    with taken(path) as held:
        assert held
        with taken(path) as again:
            assert again is None
        assert path.exists()  # who did not get it does not delete it
    assert not path.exists()


def test_a_file_that_its_holder_has_just_deleted_locks_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = locks._lock

    def deleted_before(descriptor: int) -> bool | None:
        path.unlink()
        return lock(descriptor)

    monkeypatch.setattr(locks, "_lock", deleted_before)
    assert take(path) is None


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        take(path)
    assert not (tmp_path / "precious").exists()


def test_where_there_are_no_locks_it_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with taken(path) as held:
        assert held
        assert not held.certain
