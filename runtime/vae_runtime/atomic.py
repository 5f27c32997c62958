"""Outputs that are there whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from vae_runtime.errors import EnvironmentProblem, InputError, OutputExistsError

_TEMPORARY = ".tmp-"

_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the size limit of this process or file system",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the disk failed",
}

_NAME_ERRORS = {
    errno.EEXIST: "a file bears the name of a folder above it",
    errno.ENOTDIR: "a file bears the name of a folder above it",
    errno.ENAMETOOLONG: "the name is longer than the file system takes",
}


def temporary_beside(target: Path) -> Path:
    """Return the name under which `target` is written until it is whole: same folder, hidden."""
    return target.with_name(f"{_TEMPORARY}{os.getpid()}-{target.name}")


def refuse_existing(target: Path, *, overwrite: bool) -> None:
    """Raise `OutputExistsError` where `target` is there already, unless it may be overwritten."""
    if not overwrite and os.path.lexists(target):
        raise OutputExistsError(f"{target} exists already; give --overwrite to replace it, or another name")


@contextlib.contextmanager
def atomic_file(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path; when the block ends without an error, it becomes `target`.

    Missing parent folders are made. On an error `target` is as it was and the temporary is gone.

    Raises:
        OutputExistsError: `target` exists and `overwrite` is false.
        InputError: a name that cannot be.
        EnvironmentProblem: disk full, read-only or out of quota.
    """
    refuse_existing(target, overwrite=overwrite)
    temporary = temporary_beside(target)
    with _disk_errors_explained(target):
        if target.is_dir():
            raise OutputExistsError(f"{target} is a folder; expected the name of a file to write")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _flush_to_disk(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(
    target: Path, *, overwrite: bool = False, ours: Callable[[Path], bool] = lambda _: True
) -> Iterator[Path]:
    """Give an empty temporary folder; when the block ends without an error, it becomes `target`.

    A folder that is being replaced is moved aside first and deleted last.

    Args:
        target: the folder.
        overwrite: replace one that exists.
        ours: tells whether a folder that exists is one of those that are written here, so that a slip of
            the hand does not delete somebody's photographs. An empty folder may always be replaced.

    Raises:
        OutputExistsError: `target` exists and `overwrite` is false, or it is not a folder.
        InputError: a name that cannot be.
        EnvironmentProblem: disk full, read-only or out of quota.
    """
    refuse_existing(target, overwrite=overwrite)
    temporary = temporary_beside(target)
    replaced = target.with_name(f"{_TEMPORARY}{os.getpid()}-replaced-{target.name}")
    with _disk_errors_explained(target):
        if target.exists() and not target.is_dir():
            raise OutputExistsError(f"{target} is a file; expected the name of a folder to write")
        if target.exists() and any(target.iterdir()) and not ours(target):
            raise OutputExistsError(
                f"{target} holds other things than what is written here; it is not replaced, even with --overwrite"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        # A killed process of the same number, as in a restarted container, may have left one.
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for path in temporary.rglob("*"):
                _flush_to_disk(path)
            if target.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                target.rename(replaced)
            temporary.rename(target)
        finally:
            if replaced.exists() and not target.exists():
                replaced.rename(target)
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    """Ask the system to keep the file through a power cut, before its name says that it is whole."""
    if path.is_dir():
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _disk_errors_explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NAME_ERRORS:
            raise InputError(f"cannot write {target}: {_NAME_ERRORS[error.errno]}; give another") from error
        reason = _DISK_ERRORS.get(error.errno or 0)
        if reason is None:
            raise
        raise EnvironmentProblem(f"cannot write {target}: {reason}; nothing was changed there") from error
