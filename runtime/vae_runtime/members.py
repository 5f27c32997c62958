"""The files of a bundle: each is opened once, asked what it is, and then read from the same descriptor.

A name asked about and opened afterwards may stand for another file by then. So the questions that count go to
the open file, and every file comes from the one folder that was opened at the beginning, whatever its name
stands for since.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType

from vae_runtime.errors import BundleError, EnvironmentProblem, ResourceLimitError, UnsafeBundleError

# Not waiting for the writer of a pipe, not becoming a terminal's process. Python passes none on to programs.
_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)

# Windows has none of these: there a link is looked for by name, and what was opened compared with it.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDERS_OPEN = os.open in os.supports_dir_fd and os.scandir in os.supports_fd

# What systems say of a link that is opened as a plain file; and of links in a circle, where they are followed.
_BECAME_A_LINK = (errno.ELOOP, errno.EMLINK)

# Said of this process or machine, not of the file.
_NO_FAULT_OF_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)


class Members:
    """The files of one folder. To be used in a `with` block, which keeps the folder open."""

    def __init__(self, folder: Path, *, allow_links: bool = False) -> None:
        """Name the folder, which may itself be reached through links.

        Args:
            folder: where the files lie.
            allow_links: let symbolic links, and files with other hard links, through.
        """
        self.folder = folder
        self.allow_links = allow_links
        self._descriptor: int | None = None

    def __enter__(self) -> Members:
        if _FOLDERS_OPEN:
            try:
                self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                raise unreadable(self.folder, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def names(self) -> list[str]:
        """Return the names of everything in the folder, sorted.

        Raises:
            BundleError: the folder cannot be listed.
        """
        try:
            with os.scandir(self.folder if self._descriptor is None else self._descriptor) as entries:
                return sorted(entry.name for entry in entries)
        except OSError as error:
            raise unreadable(self.folder, error) from error

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return all bytes of one file.

        Args:
            name: of the file, without a path.
            most_bytes: how large it may be; more is refused before anything is read.

        Raises:
            BundleError: missing, unreadable, larger than that, or cut short while it was read.
            UnsafeBundleError: a symbolic link, a file with other hard links, no regular file, or one whose place
                another takes while it is opened.
            ResourceLimitError: it does not fit into memory.
            EnvironmentProblem: the machine does not let files be opened or read.
        """
        path = self.folder / name
        try:
            before = self._stat(name)
            self._refuse_unless_plain(before, path)  # opening a device may already do something
            descriptor = self._open(name)
        except OSError as error:
            if error.errno in _BECAME_A_LINK and not self.allow_links and path.is_symlink():
                raise _linked(path) from error
            raise unreadable(path, error) from error
        try:
            found = os.fstat(descriptor)
            self._refuse_unless_plain(found, path)
            if not (_NO_FOLLOW or self.allow_links or os.path.samestat(before, found)):
                raise _linked(path) if path.is_symlink() else _replaced(path)
            return self._read_all(descriptor, found.st_size, most_bytes, path)
        except OSError as error:
            raise unreadable(path, error) from error
        finally:
            os.close(descriptor)

    def _stat(self, name: str) -> os.stat_result:
        if self._descriptor is None:
            return (self.folder / name).stat(follow_symlinks=self.allow_links)
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=self.allow_links)

    def _open(self, name: str) -> int:
        flags = _FLAGS if self.allow_links else _FLAGS | _NO_FOLLOW
        if self._descriptor is None:
            return os.open(self.folder / name, flags)
        return os.open(name, flags, dir_fd=self._descriptor)

    def _refuse_unless_plain(self, found: os.stat_result, path: Path) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise _linked(path)
        if not stat.S_ISREG(found.st_mode):
            raise UnsafeBundleError(f"{path}: is {_kind(found.st_mode)}, not a regular file")
        if found.st_nlink > 1 and not self.allow_links:
            raise UnsafeBundleError(
                f"{path}: has {found.st_nlink} hard links; expected 1: under another name it can be changed "
                f"or belong to somebody else. {_HOW_TO_MEND_LINKS}"
            )

    @staticmethod
    def _read_all(descriptor: int, size: int, most_bytes: int, path: Path) -> bytes:
        if size > most_bytes:
            raise BundleError(f"{path}: {size} bytes; expected at most {most_bytes}")
        try:
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(size)
        except MemoryError as error:
            raise ResourceLimitError(f"{path}: its {size} bytes do not fit into memory") from error
        if len(data) != size:
            raise BundleError(f"{path}: was cut short while it was read: {len(data)} of {size} bytes")
        return data


_HOW_TO_MEND_LINKS = (
    "Copy the bundle with its files in it (cp -rL), or let links through where you trust who made them "
    "(allow_links=True, --allow-links)"
)


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for is_kind, name in kinds if is_kind(mode)), "something else")


def _linked(path: Path) -> UnsafeBundleError:
    return UnsafeBundleError(f"{path}: is a symbolic link. {_HOW_TO_MEND_LINKS}")


def _replaced(path: Path) -> UnsafeBundleError:
    return UnsafeBundleError(
        f"{path}: another file took its place while it was opened; expected one that stays. "
        "Open the bundle again when nobody writes to it"
    )


def unreadable(path: Path, error: OSError) -> BundleError | EnvironmentProblem:
    """Return what it means that a file or folder of a bundle cannot be read: is it at fault, or the machine?"""
    kind = EnvironmentProblem if error.errno in _NO_FAULT_OF_THE_FILE else BundleError
    return kind(f"{path}: cannot be read ({error.strerror})")
