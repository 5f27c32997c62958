"""Reading .npy and .npz files from strangers: nothing unpickled, nothing allocated on a header's word.

numpy's own loader believes the header before it looks at the file: a file of 200 bytes can make it
allocate gigabytes. So the header is parsed from a bounded piece, by numpy's parser, and its claim
compared with the bytes that are there.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import math
import stat
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.format as npy_format
import numpy.typing as npt

from vae_runtime.errors import InputError, one_line

Array = npt.NDArray[Any]

_LONGEST_HEADER = 16 << 10  # bytes; numpy itself takes 10,000 characters
_HEADER_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}

# What numpy's parser of headers raises on damaged ones.
_HEADER_ERRORS = (
    ValueError,
    TypeError,
    EOFError,
    SyntaxError,
    OverflowError,
    RecursionError,
    KeyError,
    tokenize.TokenError,
)
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int
    """Where the numbers begin."""

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def total_bytes(self) -> int:
        return self.offset + self.count * self.dtype.itemsize

    @property
    def order(self) -> Any:
        return "F" if self.fortran_order else "C"


def read_npy(path: Path, *, memory_map: bool = False) -> Array:
    """Read one array from a .npy file.

    Args:
        path: the file.
        memory_map: leave the data on disk and read what is touched; the array cannot be written to.

    Raises:
        InputError: missing, not a regular file, not .npy, cut short, longer than its header says,
            or of a data type that is not plain numbers.
    """
    _require_regular_file(path)
    with _open(path) as file:
        header = _parse_header(file.read(_LONGEST_HEADER), str(path))
        size = path.stat().st_size
        if header.total_bytes != size:
            raise InputError(
                f"{path}: not a complete .npy: header says {header.total_bytes} bytes, file has {size}"
            )
        if memory_map and header.count:
            return np.memmap(path, header.dtype, "r", header.offset, header.shape, header.order)
        file.seek(header.offset)
        return np.fromfile(file, header.dtype, header.count).reshape(header.shape, order=header.order)


def read_npz(path: Path, name: str | None = None) -> dict[str, Array]:
    """Read the arrays of a .npz archive, or only the one called `name`.

    Raises:
        InputError: missing, not an archive of arrays, damaged, or without an array of that name.
    """
    with _open_archive(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if name is not None and name not in members:
            raise InputError(f"{path}: no array {name!r}; it holds {', '.join(members) or 'none'}")
        return {key: _read_member(archive, members[key], path) for key in ([name] if name else members)}


def npz_shapes(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and data type of every array of a .npz, by name, without reading their numbers.

    Raises:
        InputError: as `read_npz`.
    """
    with _open_archive(path) as archive:
        shapes = {}
        for info in archive.infolist():
            with archive.open(info) as member:
                header = _parse_header(
                    member.read(_LONGEST_HEADER), f"{path}: {info.filename}", any_type=True
                )
            shapes[info.filename.removesuffix(".npy")] = (header.shape, header.dtype)
        return shapes


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a .npz for the block, and say in plain words what is wrong with one that is damaged."""
    _require_regular_file(path)
    with _open(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except InputError:
            raise
        except _ARCHIVE_ERRORS as error:
            raise InputError(f"{path}: not a complete .npz archive of numbers ({one_line(error)})") from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    source = f"{path}: array {info.filename.removesuffix('.npy')!r}"
    with archive.open(info) as member:
        header = _parse_header(member.read(_LONGEST_HEADER), source)
        if header.total_bytes != info.file_size:
            raise InputError(
                f"{source}: header says {header.total_bytes} bytes, the archive has {info.file_size}"
            )
        member.seek(header.offset)
        numbers = member.read()
    return np.frombuffer(bytearray(numbers), header.dtype).reshape(header.shape, order=header.order)


def _parse_header(first: bytes, source: str, *, any_type: bool = False) -> _Header:
    """Parse a .npy header from the file's first bytes; `any_type` lets text and records through."""
    if first.startswith(b"PK\x03\x04"):
        raise InputError(f"{source}: is a zip archive; expected one .npy array (name it .npz)")
    stream = io.BytesIO(first)
    try:
        version = npy_format.read_magic(stream)
        shape, fortran_order, dtype = _HEADER_READERS[version](stream)
    except _HEADER_ERRORS as error:
        raise InputError(f"{source}: not a complete .npy array of numbers ({one_line(error)})") from error
    if dtype.hasobject:
        raise InputError(f"{source}: object arrays are refused: reading one would run code from the file")
    if not any_type and dtype.kind not in "buif":
        raise InputError(f"{source}: data type {dtype}; expected uint8 or a floating point type")
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise InputError(f"{source}: shape {shape}; expected whole numbers of at least 0")
    if math.prod(filter(None, shape)) * dtype.itemsize > sys.maxsize:
        raise InputError(f"{source}: shape {shape}; no memory holds that many numbers")
    return _Header(shape, fortran_order, dtype, stream.tell())


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _require_regular_file(path: Path) -> None:
    # Asked before opening: reading a pipe would wait for ever.
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)})") from error
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{path}: expected a regular file; it is {'a folder' if stat.S_ISDIR(mode) else 'not one'}"
        )
