"""Reading .npy and .npz files from strangers: nothing unpickled, nothing allocated on a header's word."""

from __future__ import annotations

import stat
import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.errors import InputError

Array = npt.NDArray[Any]


def read_npy(path: Path, *, memory_map: bool = False) -> Array:
    """Read one array from a .npy file.

    Args:
        path: the file.
        memory_map: leave the data on disk and read what is touched.

    Raises:
        InputError: missing, not a regular file, not .npy, cut short, longer than its header says,
            or of a data type that is not plain numbers.
    """
    _require_regular_file(path)
    try:
        # Mapping first compares the file's size with the header's: a false header allocates nothing.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, TypeError, MemoryError, OverflowError, tokenize.TokenError) as error:
        raise InputError(f"{path}: not a complete .npy array of numbers ({_one_line(error)})") from error
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise InputError(f"{path}: is a zip archive; expected one .npy array (name it .npz)")
    expected = mapped.offset + mapped.nbytes if isinstance(mapped, np.memmap) else None
    if expected is not None and expected != path.stat().st_size:
        raise InputError(f"{path}: {path.stat().st_size} bytes; its header says {expected}")
    require_numbers(path, mapped)
    return mapped if memory_map else np.array(mapped)


def read_npz(path: Path, name: str | None = None) -> dict[str, Array]:
    """Read the arrays of a .npz archive, or only the one called `name`.

    Raises:
        InputError: missing, not an archive of arrays, damaged, or without an array of that name.
    """
    _require_regular_file(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: one .npy array; expected an .npz archive (name it .npy)")
            if name is not None and name not in archive.files:
                raise InputError(f"{path}: no array {name!r}; it holds {', '.join(archive.files) or 'none'}")
            return {key: archive[key] for key in ([name] if name else archive.files)}
    except InputError:
        raise
    except (
        ValueError, EOFError, OSError, TypeError, MemoryError, OverflowError, KeyError, NotImplementedError,
        zipfile.BadZipFile, zipfile.zlib.error, tokenize.TokenError,
    ) as error:  # fmt: skip
        raise InputError(f"{path}: not a complete .npz archive of numbers ({_one_line(error)})") from error


def require_numbers(source: object, array: Array) -> None:
    """Raise `InputError` unless the array is of bool, integer or floating point numbers."""
    if array.dtype.kind not in "buif":
        raise InputError(f"{source}: data type {array.dtype}; expected uint8 or a floating point type")


def _require_regular_file(path: Path) -> None:
    # Asked before opening: reading a pipe would wait for ever.
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({_one_line(error)})") from error
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: expected a regular file; it is {'a folder' if stat.S_ISDIR(mode) else 'not one'}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
