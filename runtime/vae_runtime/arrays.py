"""Reading .npy and .npz files from strangers: nothing unpickled, nothing allocated on a header's word.

numpy's own loader believes the header before it looks at the file: a file of 200 bytes can make it
allocate gigabytes. So the header is parsed from a bounded piece, by numpy's parser, and its claim
compared with the bytes that are there; of an archive, with the most that its packed bytes can hold.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import math
import os
import stat
import sys
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.lib.format as npy_format
import numpy.typing as npt

from vae_runtime.errors import InputError, ResourceLimitError, VaeError, one_line
from vae_runtime.memory import require_memory

Array = npt.NDArray[Any]

# Bytes. Of more characters numpy says how to read the file by unpickling, which is no advice of ours.
_LONGEST_HEADER = 10_000
_MOST_AXES = 32  # of an array of the oldest numpy that is supported; images have four
_HEADER_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}

# numpy packs arrays by these alone. Of others, a few bytes can unpack to any size.
_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DEFLATE_AT_MOST = 1032  # bytes out of one byte: 258 for every two bits (RFC 1951)

# Opening must not wait for somebody who writes into a pipe, nor take a terminal for its own.
_OPEN_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))

# What numpy's parser of headers raises on damaged ones.
_HEADER_ERRORS = (
    ValueError,
    TypeError,
    EOFError,
    SyntaxError,
    OverflowError,
    RecursionError,
    MemoryError,  # of Python's parser, where signs stand too deep
    KeyError,
    tokenize.TokenError,
)
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class NpyHeader:
    """What the header of a .npy file says."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int
    """Where the numbers begin."""

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    @property
    def total_bytes(self) -> int:
        """How long the file is."""
        return self.offset + self.count * self.dtype.itemsize

    @property
    def order(self) -> Literal["C", "F"]:
        """How numpy names it."""
        return "F" if self.fortran_order else "C"


def read_npy(path: Path) -> Array:
    """Read one array from a .npy file.

    Raises:
        InputError: missing, not a regular file, not .npy, cut short, longer than its header says,
            or of a data type that is not plain numbers.
        ResourceLimitError: it does not fit into memory.
    """
    with open_npy(path) as (file, header):
        file.seek(header.offset)
        return _read_numbers(file, header, str(path))


@contextlib.contextmanager
def open_npy(path: Path) -> Iterator[tuple[io.BufferedReader, NpyHeader]]:
    """Open a .npy file for the block, and say what its header says; the file is as long as that promises.

    Raises:
        InputError: as `read_npy`.
    """
    with _open(path) as file:
        header = _parse_header(file.read(_LONGEST_HEADER), str(path))
        size = os.fstat(file.fileno()).st_size
        if header.total_bytes != size:
            raise InputError(
                f"{path}: not a complete .npy: header says {header.total_bytes} bytes, file has {size}"
            )
        yield file, header


def read_one_of_npz(path: Path, name: str) -> Array:
    """Read the array called `name` of a .npz archive, or the only one that is in it, whatever it is called.

    Raises:
        InputError, ResourceLimitError: as `read_npz`.
    """
    with _open_archive(path) as archive:
        members = _members(archive, path)
        only = next(iter(members)) if len(members) == 1 else name
        return _read_member(archive, _named(members, name if name in members else only, path), path)


def read_npz(path: Path, name: str | None = None) -> dict[str, Array]:
    """Read the arrays of a .npz archive, or only the one called `name`.

    Raises:
        InputError: missing, not an archive of arrays, damaged, with two arrays of one name, or without an
            array of that name.
        ResourceLimitError: they do not fit into memory.
    """
    with _open_archive(path) as archive:
        members = _members(archive, path)
        wanted = members if name is None else [name]
        return {key: _read_member(archive, _named(members, key, path), path) for key in wanted}


def npz_shapes(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and data type of every array of a .npz, by name, without reading their numbers.

    Raises:
        InputError: as `read_npz`.
    """
    with _open_archive(path) as archive:
        shapes = {}
        for name, info in _members(archive, path).items():
            with archive.open(info) as member:
                header = _parse_header(
                    member.read(_LONGEST_HEADER), f"{path}: {info.filename}", any_type=True
                )
            shapes[name] = (header.shape, header.dtype)
        return shapes


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a .npz for the block, and say in plain words what is wrong with one that is damaged."""
    with _open(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except VaeError:
            raise
        except _ARCHIVE_ERRORS as error:
            raise InputError(f"{path}: not a complete .npz archive of numbers ({one_line(error)})") from error


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's arrays by name; an archive in which one name means two arrays is refused."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise InputError(f"{path}: holds two arrays called {name!r}; expected one of each name")
        if info.compress_type not in _PACKING:
            raise InputError(
                f"{path}: array {name!r} is packed by method {info.compress_type}; expected what numpy.savez "
                "and numpy.savez_compressed write: stored or deflated"
            )
        members[name] = info
    return members


def _named(members: dict[str, zipfile.ZipInfo], name: str, path: Path) -> zipfile.ZipInfo:
    if name not in members:
        raise InputError(
            f"{path}: no array {name!r}; it holds {', '.join(members) or 'none'}; expected one of that name, or a "
            ".npy with nothing else"
        )
    return members[name]


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    source = f"{path}: array {info.filename.removesuffix('.npy')!r}"
    with archive.open(info) as member:
        header = _parse_header(member.read(_LONGEST_HEADER), source)
        if header.total_bytes != info.file_size:
            raise InputError(
                f"{source}: header says {header.total_bytes} bytes, the archive has {info.file_size}"
            )
        packed = min(info.compress_size, path.stat().st_size)
        if info.file_size > packed * _DEFLATE_AT_MOST:
            raise InputError(
                f"{source}: {packed} packed bytes cannot hold the {info.file_size} that it claims"
            )
        member.seek(header.offset)
        return _read_numbers(member, header, source)


def _read_numbers(file: IO[bytes], header: NpyHeader, source: str) -> Array:
    """Read what follows the header into a new array."""
    size = header.count * header.dtype.itemsize
    require_memory(size, source)
    try:
        flat = np.empty(header.count, header.dtype)
    except MemoryError as error:
        raise ResourceLimitError(f"{source}: its {size} bytes do not fit into memory") from error
    read = fill(flat, file)
    if read < flat.nbytes:
        raise InputError(f"{source}: ended after {header.offset + read} of {header.total_bytes} bytes")
    if file.read(1):  # to its end, where an archive compares its checksum
        raise InputError(f"{source}: goes on after the {header.total_bytes} bytes of its header")
    return flat.reshape(header.shape, order=header.order)


def fill(array: Array, file: IO[bytes]) -> int:
    """Read a C-contiguous array's numbers, without a second copy; return how many bytes came before the file's end."""
    # An array without numbers has no bytes to look at.
    view = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
    read = 0
    while read < len(view):
        got = file.readinto(view[read:])  # type: ignore[attr-defined]  # typeshed: IO has no readinto
        if not got:
            break
        read += got
    return read


def _parse_header(first: bytes, source: str, *, any_type: bool = False) -> NpyHeader:
    """Parse a .npy header from the file's first bytes; `any_type` lets text and records through."""
    if first.startswith(b"PK\x03\x04"):
        raise InputError(f"{source}: is a zip archive; expected one .npy array (name it .npz)")
    stream = io.BytesIO(first)
    try:
        version = npy_format.read_magic(stream)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what numpy has to say about old ways of writing headers
            shape, fortran_order, dtype = _header_reader(version)(stream)
    except _HEADER_ERRORS as error:
        raise InputError(f"{source}: not a complete .npy array of numbers ({one_line(error)})") from error
    if dtype.hasobject:
        raise InputError(f"{source}: object arrays are refused: reading one would run code from the file")
    if not any_type and dtype.kind not in "buif":
        raise InputError(f"{source}: data type {dtype}; expected uint8 or a floating point type")
    if len(shape) > _MOST_AXES:
        raise InputError(f"{source}: {len(shape)} axes; expected at most {_MOST_AXES}")
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise InputError(f"{source}: shape {shape}; expected whole numbers of at least 0")
    if math.prod(filter(None, shape)) * dtype.itemsize > sys.maxsize:
        raise InputError(f"{source}: shape {shape}; no memory holds that many numbers")
    return NpyHeader(shape, fortran_order, dtype, stream.tell())


def _header_reader(version: tuple[int, int]) -> Any:
    if version not in _HEADER_READERS:  # 3.0 is for records with names in Unicode, which are no numbers
        raise ValueError(f"version {'.'.join(map(str, version))}; expected 1.0 or 2.0")
    return _HEADER_READERS[version]


def _open(path: Path) -> io.BufferedReader:
    """Open a regular file. What has been opened is asked, so that nothing can take its place in between."""
    try:
        _require_regular_file(path, path.stat().st_mode)  # opening a device may already do something
        file = os.fdopen(os.open(path, os.O_RDONLY | _OPEN_FLAGS), "rb")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"{path}: cannot be read ({reason})") from error
    try:
        _require_regular_file(path, os.fstat(file.fileno()).st_mode)
    except InputError:
        file.close()
        raise
    return file


def _require_regular_file(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{path}: expected a regular file; it is {'a folder' if stat.S_ISDIR(mode) else 'not one'}"
        )
