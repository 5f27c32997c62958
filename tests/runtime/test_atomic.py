"""Outputs that are there whole or not at all."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import EnvironmentProblem, InputError
from vae_runtime.atomic import atomic_file, atomic_folder, refuse_existing, temporary_beside
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
both = pytest.mark.parametrize(
    ("write", "new"),
    [(write_file, "new"), (write_folder, {os.path.join("inner", "file"): "new"})],  # noqa: PTH118
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
        assert beside.parent == tmp_path
        assert beside.name.startswith(".tmp-")
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
    with pytest.raises(InputError, match="parent"):
        write(tmp_path / "parent" / "out", "new", overwrite=False)
    assert (tmp_path / "parent").read_text() == "old"


@both
@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs a folder nobody can write to")
def test_a_place_that_cannot_be_written_to_is_a_problem_of_the_environment(write: Write, new: Any) -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot write /sys/kernel/out: .*(denied|read-only)"):
        write(Path("/sys/kernel/out"), "new", overwrite=False)


@both
def test_what_a_killed_process_of_the_same_number_left_is_no_hindrance(
    tmp_path: Path, write: Write, new: Any
) -> None:
    write(tmp_path / "out", "old", overwrite=False)
    for name in (temporary_beside(tmp_path / "out").name, f".tmp-{os.getpid()}-replaced-out"):
        if (tmp_path / "out").is_dir():
            (tmp_path / name).mkdir()
            (tmp_path / name / "half").write_text("half")
        elif "replaced" not in name:
            (tmp_path / name).write_text("half")
    write(tmp_path / "out", "new", overwrite=True)
    assert contents(tmp_path / "out") == new
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


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_many_names_are_longer_than_the_system_takes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name"):
        write_file(tmp_path / ("x" * 300), "new", overwrite=False)
    assert list(tmp_path.iterdir()) == []
