"""A .npy file that is read piece by piece, so that it may be larger than memory.

Not through a memory map: of a file that is cut short meanwhile, or lies on a drive that fails, that would end the
process by a signal, and what was read would count as this process's memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.arrays import NpyHeader, fill, open_npy, read_npy
from vae_runtime.errors import InputError

_PIECE = 8 << 20  # bytes
_MOST_ROWS = 4096  # in a piece: what a GPU works on at a time


class Rows:
    """The first rows of an array, in a file or in memory; each iteration gives them from the first on."""

    def __init__(
        self,
        source: Path | npt.NDArray[Any],
        limit: int | None = None,
        *,
        names: Sequence[Path] | None = None,
        path: Path | None = None,
    ) -> None:
        """Look at the header of a file.

        Args:
            source: a .npy file, or the array itself.
            limit: take only the first so many.
            names: the files that the rows come from, where each has its own.
            path: the file that all of them come from, for messages.

        Raises:
            InputError: as `read_npy`.
        """
        self.names, self.path = names, path
        self._source = source
        if isinstance(source, Path):
            with open_npy(source) as (_, header):
                found: NpyHeader | npt.NDArray[Any] = header
            if header.fortran_order or not header.shape:  # its rows do not follow one another
                self._source = found = read_npy(source)
        else:
            found = source
        self.dtype = found.dtype
        self.shape = self.full_shape = found.shape
        if limit is not None and self.shape:
            self.shape = (min(limit, self.shape[0]), *self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        """Give the rows in arrays of several.

        Raises:
            InputError: the file cannot be read any more, or has become shorter.
        """
        row = max(1, self.dtype.itemsize * math.prod(self.shape[1:]))
        most = min(max(1, _PIECE // row), _MOST_ROWS)
        pieces = (slice(start, min(start + most, len(self))) for start in range(0, len(self), most))
        if isinstance(self._source, Path):
            return self._read(self._source, pieces)
        array = self._source
        return (array[piece] for piece in pieces)

    def whole(self) -> npt.NDArray[Any]:
        """Return all rows as one array."""
        if isinstance(self._source, Path):
            none = np.empty((0, *self.shape[1:]), self.dtype)
            return np.concatenate([none, *self])
        return self._source[: len(self)] if self.shape else self._source

    def _read(self, path: Path, pieces: Iterator[slice]) -> Iterator[npt.NDArray[Any]]:
        with open_npy(path) as (file, header):
            if (
                header.dtype != self.dtype
                or header.shape[1:] != self.shape[1:]
                or header.shape[:1] < self.shape[:1]
            ):
                raise InputError(f"{path}: was replaced while it was read; expected {len(self)} rows")
            file.seek(header.offset)
            for piece in pieces:
                rows = np.empty((piece.stop - piece.start, *self.shape[1:]), self.dtype)
                try:
                    read = fill(rows, file)
                except OSError as error:
                    raise InputError(f"{path}: cannot be read any more ({error.strerror})") from error
                if read < rows.nbytes:
                    raise InputError(f"{path}: became shorter while it was read")
                yield rows
