"""Outputs that are there whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vae_runtime.errors import EnvironmentProblem, InputError, OutputExistsError
from vae_runtime.renaming import exchange, rename_to_new
from vae_runtime.scratch import is_there, scratch_beside, set_aside

_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the size limit of this process or file system",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the disk failed",
    errno.ESTALE: "the network drive failed",
    errno.ENOENT: "a folder on the way vanished meanwhile",
    errno.EXDEV: "what is there belongs to another file system (a mount, or an image's layer)",
    errno.EBUSY: "what is there is in use (a mount point, perhaps)",
    errno.EMFILE: "this process has too many files open",
    errno.ENFILE: "this machine has too many files open",
    errno.ENOMEM: "not enough memory",
}

_NAME_ERRORS = {
    errno.EEXIST: "a file bears the name of a folder above it",
    errno.ENOTDIR: "a file bears the name of a folder above it",
    errno.ENAMETOOLONG: "the name is longer than the file system takes",
}


def refuse_existing(target: Path, *, overwrite: bool) -> None:
    """Raise `OutputExistsError` where `target` is there already, unless it may be overwritten."""
    if not overwrite and os.path.lexists(target):
        raise OutputExistsError(f"{target} exists already; give --overwrite to replace it, or another name")


@contextlib.contextmanager
def atomic_file(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path; when the block ends without an error, it becomes `target`.

    Missing parent folders are made. On an error `target` is as it was, and nothing else is there.

    Raises:
        OutputExistsError: `target` exists and `overwrite` is false.
        InputError: a name that cannot be.
        EnvironmentProblem: disk full, read-only or out of quota.
    """
    refuse_existing(target, overwrite=overwrite)
    with disk_errors_explained(target):
        if target.is_dir():
            raise OutputExistsError(f"{target} is a folder; expected the name of a file to write")
        with folder_made(target.parent), scratch_beside(target) as scratch:
            temporary = scratch / target.name
            yield temporary
            _flush(temporary)
            if overwrite:
                temporary.replace(target)
            else:
                _rename_to_new(temporary, target)
            _confirm(target)


@contextlib.contextmanager
def atomic_folder(
    target: Path, *, overwrite: bool = False, ours: Callable[[Path], bool] = lambda _: True
) -> Iterator[Path]:
    """Give an empty temporary folder; when the block ends without an error, it becomes `target`.

    A folder that is being replaced changes places with the new one at once. Where the system cannot do that
    (other than Linux, some network drives) it is moved aside first; killed in that moment, the process leaves
    the old folder to be put back by the next one that writes beside it.

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
    with disk_errors_explained(target):
        if target.exists() and not target.is_dir():
            raise OutputExistsError(f"{target} is a file; expected the name of a folder to write")
        if target.exists() and any(target.iterdir()) and not ours(target):
            raise OutputExistsError(
                f"{target} holds other things than what is written here; it is not replaced, even with --overwrite"
            )
        with folder_made(target.parent), scratch_beside(target) as scratch:
            temporary = scratch / target.name
            temporary.mkdir()
            yield temporary
            for path in (temporary, *temporary.rglob("*")):
                _flush(path)
            if not (overwrite and is_there(target)):
                _rename_to_new(temporary, target)
            elif not exchange(temporary, target):
                set_aside(target, scratch)
                temporary.rename(target)
            _confirm(target)


def remove_folder(folder: Path) -> None:
    """Delete a folder so that it is there whole or not at all. What cannot be deleted stays, without an error."""
    with contextlib.suppress(OSError), scratch_beside(folder) as scratch:
        folder.rename(scratch / folder.name)


def _rename_to_new(temporary: Path, target: Path) -> None:
    try:
        rename_to_new(temporary, target)
    except FileExistsError as error:
        raise OutputExistsError(
            f"{target} was made by another process meanwhile; it is left as it is"
        ) from error


def _flush(path: Path) -> None:
    """Ask the system to keep a file, or the names in a folder, through a power cut."""
    if path.is_dir() and os.name == "nt":
        return  # there a folder cannot be opened
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems keep no folders by themselves.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def _confirm(target: Path) -> None:
    """Ask the system to keep the new name as well. Too late to take it back, should that fail."""
    try:
        _flush(target.parent)
    except OSError as error:
        raise EnvironmentProblem(
            f"{target} is written, but the disk did not confirm it ({error.strerror}): "
            "a power cut may bring back what was there before"
        ) from error


@contextlib.contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Make a folder and those above it where they are missing; after an error they are gone again."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):  # somebody else writes there, too
                path.rmdir()
        raise


@contextlib.contextmanager
def disk_errors_explained(target: Path) -> Iterator[None]:
    """Turn what the system says when writing fails into errors that say what to do.

    Raises:
        InputError: a name that cannot be.
        EnvironmentProblem: disk full, read-only or out of quota.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NAME_ERRORS:
            raise InputError(f"cannot write {target}: {_NAME_ERRORS[error.errno]}; give another") from error
        reason = _DISK_ERRORS.get(error.errno or 0)
        if reason is None:
            raise
        raise EnvironmentProblem(f"cannot write {target}: {reason}; nothing was changed there") from error
