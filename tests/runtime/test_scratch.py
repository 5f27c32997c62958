"""What killed processes leave behind is swept away, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import locks, renaming
from vae_runtime.atomic import atomic_file, atomic_folder
from vae_runtime.scratch import scratch_beside, sweep

needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="no locks that vanish with their process")

# Writes half of a file, says so, and waits for its end.
WRITING = """
import sys, time
from pathlib import Path
from vae_runtime.atomic import atomic_file
with atomic_file(Path(sys.argv[1])) as beside:
    beside.write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


def write(target: Path, text: str = "new") -> None:
    with atomic_file(target) as beside:
        beside.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def leave_behind(folder: Path, name: str = "out", **changes: str) -> Path:
    """Make what a process that was killed while it wrote would have left: unlocked."""
    with scratch_beside(folder / name) as path:
        name = path.name
    parts = {"process": name.split("-")[1], "kernel": name.split("-")[2], **changes}
    left = folder / f".tmp-{parts['process']}-{parts['kernel']}-00000000"
    left.mkdir()
    (left / "lock").touch()
    (left / "out").write_text("half")
    return left


def make_old(folder: Path, days: float) -> None:
    then = time.time() - days * 86400
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then))


@needs_locks
@pytest.mark.parametrize("how", ["killed", "still writing"])
def test_only_of_a_killed_process_things_are_swept(tmp_path: Path, how: str) -> None:
    packages = str(Path(locks.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", WRITING, tmp_path / "out"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": packages},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        (left,) = names(tmp_path)
        assert left.startswith(f".tmp-{process.pid}-")
        if how == "killed":
            process.kill()
            process.wait()
        write(tmp_path / "other")
        assert names(tmp_path) == (["other"] if how == "killed" else [left, "other"])
        process.kill()


@needs_locks
def test_the_number_of_a_living_process_protects_nothing(tmp_path: Path) -> None:
    leave_behind(tmp_path, process=str(os.getppid()))
    leave_behind(tmp_path, process=str(os.getpid()))
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("why", ["of another machine", "where there are no locks"])
def test_what_no_lock_can_tell_is_swept_after_a_day(
    tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "of another machine":
        left = leave_behind(tmp_path, kernel="0123abcd")
    else:
        monkeypatch.setattr(locks, "fcntl", None)
        left = leave_behind(tmp_path)
    make_old(left, days=0.9)
    write(tmp_path / "out")
    assert names(tmp_path) == [left.name, "out"]
    make_old(left, days=1.1)
    (left / "out").write_text("still growing")
    write(tmp_path / "out")
    assert names(tmp_path) == [left.name, "out"]
    make_old(left, days=1.1)
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "name", [".tmp-notes", ".tmp-12-34", ".tmp-1-1f0c9a3e-5d8e02b7.txt", ".tmp-x-1f0c9a3e-5d8e02b7", "tmp-1"]
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_things_of_other_names_are_left_alone(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    path.mkdir() if kind == "folder" else path.write_text("x")
    make_old(path, days=9)
    write(tmp_path / "out")
    assert names(tmp_path) == sorted([name, "out"])


def test_neither_a_file_nor_a_link_of_such_a_name_is_swept(tmp_path: Path) -> None:
    left = leave_behind(tmp_path)
    (left / "lock").unlink()
    left.rename(tmp_path / "elsewhere")
    left.symlink_to("elsewhere")
    file = left.with_name(left.name[:-1] + "1")
    file.write_text("x")
    write(tmp_path / "out")
    assert names(tmp_path) == sorted([left.name, file.name, "elsewhere", "out"])
    assert names(tmp_path / "elsewhere") == ["out"]


def moved_aside(folder: Path) -> Path:
    left = leave_behind(folder)
    (left / "replaced" / "bundle").mkdir(parents=True)
    (left / "replaced" / "bundle" / "file").write_text("old")
    return left


@needs_locks
@pytest.mark.parametrize("next_step", ["a write beside it", "a sweep"])
def test_a_folder_that_a_killed_process_had_moved_aside_is_put_back(tmp_path: Path, next_step: str) -> None:
    moved_aside(tmp_path)
    sweep(tmp_path) if next_step == "a sweep" else write(tmp_path / "out")
    assert (tmp_path / "bundle" / "file").read_text() == "old"
    assert not list(tmp_path.glob(".tmp-*"))


@needs_locks
def test_a_folder_that_was_moved_aside_does_not_come_back_over_a_newer_one(tmp_path: Path) -> None:
    moved_aside(tmp_path)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "file").write_text("newer")
    sweep(tmp_path)
    assert (tmp_path / "bundle" / "file").read_text() == "newer"
    assert names(tmp_path) == ["bundle"]


@needs_locks
def test_a_folder_that_cannot_be_put_back_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = moved_aside(tmp_path)

    def fail(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail)
        sweep(tmp_path)
    assert (left / "replaced" / "bundle" / "file").read_text() == "old"
    sweep(tmp_path)
    assert (tmp_path / "bundle" / "file").read_text() == "old"


def test_sweeping_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    sweep(tmp_path / "nowhere")


# Killed between the two renames, on a system that cannot exchange folders.
KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from vae_runtime import renaming
from vae_runtime.atomic import atomic_folder
renaming._renameat2 = lambda: None
rename = Path.rename
def rename_and_die(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = rename_and_die
with atomic_folder(Path(sys.argv[1]), overwrite=True) as beside:
    (beside / "file").write_text("new")
"""


@needs_locks
def test_a_process_killed_between_two_renames_loses_nothing(tmp_path: Path, run_python: Any) -> None:
    with atomic_folder(tmp_path / "bundle") as beside:
        (beside / "file").write_text("old")
    finished = run_python(KILLED_BETWEEN, tmp_path / "bundle")
    assert finished.returncode == -signal.SIGKILL
    assert not (tmp_path / "bundle").exists()  # this is the moment in question
    write(tmp_path / "out")
    assert (tmp_path / "bundle" / "file").read_text() == "old"
    assert names(tmp_path) == ["bundle", "out"]


def test_a_scratch_folder_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, times = locks.take, []

    def take_late(path: Path) -> locks.Held | None:
        times.append(path)
        if len(times) == 1:
            path.parent.rmdir()  # as by one who sweeps
        return take(path)

    monkeypatch.setattr("vae_runtime.scratch.take", take_late)
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert len(times) >= 2


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[Path, Path]:
    for name in "ab":
        (tmp_path / name).write_text(name)
    return tmp_path / "a", tmp_path / "b"


def test_exchanging_says_when_it_cannot(
    two_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    assert not renaming.exchange(*two_files)
    assert [path.read_text() for path in two_files] == ["a", "b"]


@pytest.mark.skipif(not renaming._renameat2(), reason="this system cannot exchange names")
def test_two_names_change_places(two_files: tuple[Path, Path]) -> None:
    a, b = two_files
    assert renaming.exchange(a, b)
    assert [path.read_text() for path in two_files] == ["b", "a"]
    with pytest.raises(FileNotFoundError):
        renaming.exchange(a, b.with_name("missing"))
    assert a.read_text() == "b"
