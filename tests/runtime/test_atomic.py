"""Outputs that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from vae_runtime import EnvironmentProblem, InputError, atomic, locks, renaming, scratch
from vae_runtime.atomic import atomic_file, atomic_folder, refuse_existing
from vae_runtime.errors import OutputExistsError


class OurFailureError(Exception):
    pass


def write_file(target: Path, text: str, *, overwrite: bool, fail: BaseException | None = None) -> None:
    with atomic_file(target, overwrite=overwrite) as beside:
        beside.write_text(text)
        if fail:
            raise fail


def write_folder(target: Path, text: str, *, overwrite: bool, fail: BaseException | None = None) -> None:
    with atomic_folder(target, overwrite=overwrite) as beside:
        (beside / "inner").mkdir()
        (beside / "inner" / "file").write_text(text)
        if fail:
            raise fail


def contents(target: Path) -> Any:
    if target.is_dir():
        return {
            str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()
        }
    return target.read_text()


Write = Callable[..., None]
INNER = str(Path("inner", "file"))
both = pytest.mark.parametrize(
    ("write", "new"),
    [(write_file, "new"), (write_folder, {INNER: "new"})],
    ids=["file", "folder"],
)


@both
def test_an_output_appears_and_nothing_else_does(tmp_path: Path, write: Write, new: Any) -> None:
    write(tmp_path / "out", "new", overwrite=False)
    assert contents(tmp_path / "out") == new
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@both
def test_missing_parent_folders_are_made(tmp_path: Path, write: Write, new: Any) -> None:
    write(tmp_path / "a" / "b" / "out", "new", overwrite=False)
    assert contents(tmp_path / "a" / "b" / "out") == new


@both
def test_what_exists_is_not_overwritten_unasked(tmp_path: Path, write: Write, new: Any) -> None:
    write(tmp_path / "out", "old", overwrite=False)
    before = contents(tmp_path / "out")
    with pytest.raises(OutputExistsError, match="out exists already; give --overwrite"):
        write(tmp_path / "out", "new", overwrite=False)
    assert contents(tmp_path / "out") == before


@both
def test_what_exists_is_replaced_whole_when_asked(tmp_path: Path, write: Write, new: Any) -> None:
    write(tmp_path / "out", "old", overwrite=False)
    if (tmp_path / "out").is_dir():
        (tmp_path / "out" / "left from before").write_text("x")
    write(tmp_path / "out", "new", overwrite=True)
    assert contents(tmp_path / "out") == new
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@both
@pytest.mark.parametrize("error", [OurFailureError(), KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_a_failure_inside_leaves_all_as_it_was(
    tmp_path: Path, write: Write, new: Any, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        write(tmp_path / "out", "new", overwrite=False, fail=error)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "out", "old", overwrite=False)
    before = contents(tmp_path / "out")
    with pytest.raises(type(error)):
        write(tmp_path / "out", "new", overwrite=True, fail=error)
    assert contents(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_while_it_is_written_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    with atomic_file(target) as beside:
        beside.write_text("half")
        assert target.read_text() == "old"
        assert beside.parent.parent == tmp_path  # the same file system, so that renaming does it
        assert beside.parent.name.startswith(".tmp-")
    assert target.read_text() == "half"


@pytest.mark.parametrize(
    ("writer", "message"),
    [
        (atomic_file, "is a folder; expected the name of a file"),
        (atomic_folder, "is a file; expected the name of a f"),
    ],
)
def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(
    tmp_path: Path, writer: Callable[..., AbstractContextManager[Path]], message: str
) -> None:
    target = tmp_path / "out"
    target.mkdir() if writer is atomic_file else target.write_text("old")
    with pytest.raises(OutputExistsError, match=message), writer(target, overwrite=True):
        pass
    assert target.exists()


def test_a_folder_that_is_not_one_of_ours_is_not_replaced(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", "old", overwrite=False)
    with (
        pytest.raises(OutputExistsError, match="out holds other things than what is written here"),
        atomic_folder(tmp_path / "out", overwrite=True, ours=lambda folder: (folder / "mark").exists()),
    ):
        pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["inner"]
    (tmp_path / "out" / "mark").touch()
    with atomic_folder(tmp_path / "out", overwrite=True, ours=lambda folder: (folder / "mark").exists()):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_to_nothing_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(OutputExistsError):
        refuse_existing(tmp_path / "out", overwrite=False)
    refuse_existing(tmp_path / "out", overwrite=True)


@both
def test_a_parent_that_is_a_file_is_named(tmp_path: Path, write: Write, new: Any) -> None:
    (tmp_path / "parent").write_text("old")
    with pytest.raises(InputError, match="/out: a file bears the name of a folder above it"):
        write(tmp_path / "parent" / "out", "new", overwrite=False)
    assert (tmp_path / "parent").read_text() == "old"


@both
@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs a folder nobody can write to")
def test_a_place_that_cannot_be_written_to_is_a_problem_of_the_environment(write: Write, new: Any) -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot write /sys/kernel/out: .*(denied|read-only)"):
        write(Path("/sys/kernel/out"), "new", overwrite=False)


@both
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.EBUSY])
def test_every_failure_of_the_disk_is_a_problem_of_the_environment(
    tmp_path: Path, write: Write, new: Any, error: int
) -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot write .*out: .*; nothing was changed"):
        write(tmp_path / "out", "new", overwrite=False, fail=OSError(error, os.strerror(error)))


@both
def test_folders_made_for_an_output_that_failed_are_gone_again(
    tmp_path: Path, write: Write, new: Any
) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(OurFailureError):
        write(tmp_path / "kept" / "a" / "b" / "out", "new", overwrite=False, fail=OurFailureError())
    assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]


@both
@pytest.mark.parametrize("system", ["this one", "one that knows no such rename"])
def test_what_another_process_wrote_meanwhile_is_not_replaced_unasked(
    tmp_path: Path, write: Write, new: Any, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if system != "this one":
        monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    writer = atomic_file if write is write_file else atomic_folder

    def write_beaten() -> None:
        with writer(tmp_path / "out", overwrite=False) as beside:
            write(tmp_path / "out", "new", overwrite=False)
            if write is write_file:
                beside.write_text("too late")

    with pytest.raises(OutputExistsError, match="out was made by another process meanwhile"):
        write_beaten()
    assert contents(tmp_path / "out") == new
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


OURS = {str(Path(module.__file__)) for module in (atomic, locks, renaming, scratch)}


def interrupted_at_line(number: int, work: Callable[[], None]) -> bool:
    """Let a Ctrl-C come before the n-th line of our own code that runs; tell whether there was such a line."""
    left = number

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in OURS:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    assert left > 0, "the interruption was swallowed"
    return False


@pytest.mark.parametrize(
    ("write", "new", "system"),
    [
        (write_file, "new", "this one"),
        (write_folder, {INNER: "new"}, "one that exchanges folders"),
        (write_folder, {INNER: "new"}, "one that moves them aside"),
    ],
    ids=["file", "exchanged folder", "moved folder"],
)
def test_an_interruption_at_any_line_leaves_the_old_or_the_new_and_nothing_else(
    tmp_path: Path, write: Write, new: Any, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and of no matter here
    if system == "one that moves them aside":
        monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    write(tmp_path / "out", "old", overwrite=False)
    old = contents(tmp_path / "out")
    seen, number = [], 1
    while interrupted_at_line(number, lambda: write(tmp_path / "out", "new", overwrite=True)):
        assert [path.name for path in tmp_path.iterdir()] == ["out"], number
        seen.append(contents(tmp_path / "out"))
        assert seen[-1] in (old, new), number
        write(tmp_path / "out", "old", overwrite=True)
        number += 1
    assert number > 30
    assert old in seen
    assert new in seen


def test_a_folder_that_is_replaced_is_there_whole_at_every_moment(tmp_path: Path) -> None:
    if not renaming._renameat2():
        pytest.skip("this system cannot exchange two folders")
    write_folder(tmp_path / "out", "old", overwrite=False)
    seen = []

    def look(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in OURS:
            return None
        file = tmp_path / "out" / "inner" / "file"
        seen.append(file.read_text() if file.exists() else "missing")
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        write_folder(tmp_path / "out", "new", overwrite=True)
    finally:
        sys.settrace(before)
    assert seen == sorted(seen, reverse=True)  # old, old, ..., new
    assert set(seen) == {"old", "new"}


@both
def test_a_system_that_cannot_exchange_folders_replaces_them_too(
    tmp_path: Path, write: Write, new: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    write(tmp_path / "out", "old", overwrite=False)
    write(tmp_path / "out", "new", overwrite=True)
    assert contents(tmp_path / "out") == new
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_the_new_folder_cannot_take_its_place_the_old_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    write_folder(tmp_path / "out", "old", overwrite=False)
    rename = os.rename

    def fail_for_the_new_one(source: Any, target: Any, **options: Any) -> None:
        if Path(source).parent.name != "replaced" and Path(target) == tmp_path / "out":
            raise OSError(errno.EIO, "gone")
        rename(source, target, **options)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(EnvironmentProblem, match="the disk failed"):
        write_folder(tmp_path / "out", "new", overwrite=True)
    assert contents(tmp_path / "out") == {INNER: "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_a_folder_is_replaced_and_the_folder_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "0001.png").write_text("dear")
    (tmp_path / "out").symlink_to("photographs")
    write_folder(tmp_path / "out", "new", overwrite=True)
    assert not (tmp_path / "out").is_symlink()
    assert (tmp_path / "photographs" / "0001.png").read_text() == "dear"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photographs"]


@both
def test_files_reach_the_disk_before_their_name_and_the_name_before_success(
    tmp_path: Path, write: Write, new: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        events.append(("flush", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        events.append(("there", str((tmp_path / "out").exists())))
        fsync(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs Linux to tell which file a descriptor is of")
    monkeypatch.setattr(os, "fsync", note)
    write(tmp_path / "out", "new", overwrite=False)
    flushed = [name for kind, name in events if kind == "flush"]
    there = [name for kind, name in events if kind == "there"]
    assert sorted(flushed[:-1]) == (["out"] if write is write_file else ["file", "inner", "out"])
    assert flushed[-1] == tmp_path.name  # the folder that holds the new name
    assert there == ["False"] * (len(there) - 1) + ["True"]


def test_a_name_that_the_disk_does_not_confirm_is_told_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def fail_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.raises(EnvironmentProblem, match=r"out is written, but the disk did not confirm it \(Input"):
        write_file(tmp_path / "out", "new", overwrite=False)
    assert contents(tmp_path / "out") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system has no limit on the size of files")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_full_disk_leaves_the_old_output(tmp_path: Path, run_python: Any, kind: str) -> None:
    target = tmp_path / "out"
    (write_file if kind == "file" else write_folder)(target, "old", overwrite=False)
    before = contents(target)
    # Beyond the limit writing fails as it does on a full disk.
    finished = run_python(
        f"""
import resource, sys
from pathlib import Path
from vae_runtime import EnvironmentProblem
from vae_runtime.atomic import atomic_file, atomic_folder
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_{kind}(Path(sys.argv[1]), overwrite=True) as beside:
        ({"beside / 'one'" if kind == "folder" else "beside"}).write_bytes(bytes(5000))
except EnvironmentProblem as error:
    print(error)
""",
        target,
    )
    assert "cannot write" in finished.stdout, finished.stderr
    assert "the file would exceed the size limit" in finished.stdout
    assert "nothing was changed there" in finished.stdout
    assert contents(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(sys.platform == "win32", reason="this system says something else of such names")
def test_a_name_longer_than_the_system_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x{300}: the name is longer than the file system takes"):
        write_file(tmp_path / ("x" * 300), "new", overwrite=False)
    assert list(tmp_path.iterdir()) == []
