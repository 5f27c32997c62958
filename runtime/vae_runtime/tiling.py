"""Many pictures as one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.errors import InputError, shown
from vae_runtime.images import Pictures, as_array, is_whole_number, require_finite, to_uint8
from vae_runtime.memory import require_memory

_LONGEST_SIDE = 2**31 - 1  # pixels, of a PNG
_MOST_PIXELS = 2**40  # a terabyte


def grid(
    images: npt.NDArray[Any],
    rows: int | None = None,
    columns: int | None = None,
    *,
    padding: int = 0,
    background: int = 255,
) -> Pictures:
    """Tile pictures into one, row by row.

        0 1 2
        3 4 5
        6 . .     7 pictures, 3 columns: the last cells show the background

    Args:
        images: (N, H, W) or (N, H, W, C) uint8 pictures, or (N, C, H, W) floating point images in [0, 1].
        rows: how many rows; as many as are needed where None.
        columns: how many columns; as many as are needed where None. With neither, nearly a square.
        padding: pixels of background between pictures; none around the outside.
        background: gray value 0..255 of padding and empty cells.

    Returns:
        (rows * H + (rows - 1) * padding, ...) uint8, with a last axis C where the pictures have one.

    Raises:
        InputError: not pictures, a size below 1, more pictures than cells, or a sheet that no PNG can hold.
        ResourceLimitError: not enough memory for the sheet.
    """
    pictures = _as_pictures(images)
    rows, columns = _shape(len(pictures), rows, columns)
    if not (is_whole_number(padding) and is_whole_number(background) and padding >= 0 <= background <= 255):
        raise InputError(
            f"padding {shown(padding)}, background {shown(background)}; expected at least 0, and 0 to 255"
        )
    padding = int(padding)  # numpy's numbers overflow
    height, width = pictures.shape[1:3]
    _require_possible(rows * (height + padding), columns * (width + padding))
    shape = (rows, height + padding, columns, width + padding, *pictures.shape[3:])
    # Without padding the cells are the sheet; with it they are cut down to it, which takes another array.
    require_memory(math.prod(shape) * (2 if padding else 1), f"a sheet of {rows} rows and {columns} columns")
    cells = np.full(shape, background, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        cells[row, :height, column, :width] = picture
    sheet = cells.reshape(rows * (height + padding), columns * (width + padding), *pictures.shape[3:])
    return np.ascontiguousarray(sheet[: sheet.shape[0] - padding, : sheet.shape[1] - padding])


def _as_pictures(images: npt.NDArray[Any]) -> Pictures:
    array = as_array(images, "images")
    if array.dtype.kind == "f" and array.ndim == 4 and array.shape[1] in (1, 3):
        require_finite(array, "images")
        array = to_uint8(array)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or len(array) == 0:
        raise InputError(
            f"cannot tile {array.dtype} of shape {array.shape}; expected at least one picture, (N, H, W) or "
            "(N, H, W, C) uint8, or (N, C, H, W) floating point"
        )
    return array


def _shape(count: int, rows: int | None, columns: int | None) -> tuple[int, int]:
    for name, value in (("rows", rows), ("columns", columns)):
        if value is not None and (not is_whole_number(value) or value < 1):
            raise InputError(f"{name} is {shown(value)}; expected a whole number of at least 1")
    rows, columns = (None if value is None else int(value) for value in (rows, columns))  # numpy's overflow
    if columns is None:
        columns = -(-count // rows) if rows else math.ceil(math.sqrt(count))
    if rows is None:
        rows = -(-count // columns)
    if rows * columns < count:
        raise InputError(f"{count} pictures do not fit into {shown(rows)} rows of {shown(columns)}")
    return rows, columns


def _require_possible(height: int, width: int) -> None:
    if max(height, width) > _LONGEST_SIDE or height * width > _MOST_PIXELS:
        raise InputError(
            f"a sheet of {shown(height)}x{shown(width)} pixels; expected at most {_LONGEST_SIDE} a side and "
            f"{_MOST_PIXELS} in all"
        )
