"""Many pictures as one, against a plain double loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_runtime import InputError, grid, memory, to_uint8
from vae_runtime.errors import ResourceLimitError

Array = npt.NDArray[Any]


def pictures(count: int, height: int, width: int, *channels: int) -> Array:
    size = count * height * width * math.prod(channels)
    return (np.arange(size) * 37 % 251).astype(np.uint8).reshape(count, height, width, *channels)


def by_loops(given_pictures: Array, rows: int, columns: int, padding: int, background: int) -> Array:
    count, height, width, *rest = given_pictures.shape
    sheet = np.full(
        (rows * height + (rows - 1) * padding, columns * width + (columns - 1) * padding, *rest),
        background,
        np.uint8,
    )
    for row in range(rows):
        for column in range(columns):
            if row * columns + column < count:
                top, left = row * (height + padding), column * (width + padding)
                sheet[top : top + height, left : left + width] = given_pictures[row * columns + column]
    return sheet


def test_six_pictures_in_two_rows() -> None:
    numbered = np.arange(1, 7, dtype=np.uint8)[:, None, None]
    np.testing.assert_array_equal(grid(numbered, 2, 3), [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(
        grid(numbered, 2, 3, padding=1, background=9), [[1, 9, 2, 9, 3], [9, 9, 9, 9, 9], [4, 9, 5, 9, 6]]
    )


def test_cells_without_a_picture_show_the_background() -> None:
    numbered = np.arange(1, 5, dtype=np.uint8)[:, None, None]
    np.testing.assert_array_equal(grid(numbered, 2, 3, background=0), [[1, 2, 3], [4, 0, 0]])
    np.testing.assert_array_equal(grid(numbered, 3, 2), [[1, 2], [3, 4], [255, 255]])


@given(
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    channels=st.sampled_from([(), (3,)]),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    padding=st.integers(0, 3),
    background=st.integers(0, 255),
    data=st.data(),
)
def test_a_grid_is_what_a_double_loop_makes(
    height: int,
    width: int,
    channels: tuple[int, ...],
    rows: int,
    columns: int,
    padding: int,
    background: int,
    data: st.DataObject,
) -> None:
    count = data.draw(st.integers(1, rows * columns))
    given_pictures = pictures(count, height, width, *channels)
    sheet = grid(given_pictures, rows, columns, padding=padding, background=background)
    np.testing.assert_array_equal(sheet, by_loops(given_pictures, rows, columns, padding, background))
    assert sheet.dtype == np.uint8
    assert sheet.flags.c_contiguous


@pytest.mark.parametrize(
    ("count", "rows", "columns", "shape"),
    [
        (1, None, None, (1, 1)),
        (2, None, None, (1, 2)),
        (7, None, None, (3, 3)),
        (100, None, None, (10, 10)),
        (7, 2, None, (2, 4)),
        (7, None, 2, (4, 2)),
        (7, 9, None, (9, 1)),
        (3, None, 5, (1, 5)),
    ],
)
def test_what_is_not_given_is_as_many_as_needed(
    count: int, rows: int | None, columns: int | None, shape: tuple[int, int]
) -> None:
    assert grid(pictures(count, 1, 1), rows, columns).shape == shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_images_are_turned_into_pictures_first(dtype: Any, channels: int) -> None:
    images = (np.arange(5 * channels * 6) % 11 / 10).reshape(5, channels, 2, 3).astype(dtype)
    np.testing.assert_array_equal(grid(images, 2, 3), grid(to_uint8(images), 2, 3))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (pictures(7, 1, 1), {"rows": 2, "columns": 3}, "7 pictures do not fit into 2 rows of 3"),
        (pictures(1, 1, 1), {"rows": 0}, "rows is 0; expected a whole number of at least 1"),
        (pictures(1, 1, 1), {"columns": -1}, "columns is -1; expected a whole number of at least 1"),
        (pictures(1, 1, 1), {"padding": -1}, "padding -1"),
        (pictures(1, 1, 1), {"background": 256}, "background 256"),
        (pictures(1, 1, 1), {"rows": 1.5}, "rows is 1.5; expected a whole number"),
        (pictures(1, 1, 1), {"columns": True}, "columns is True; expected a whole number"),
        (pictures(1, 1, 1), {"padding": 0.5}, "padding 0.5"),
        (pictures(1, 1, 1), {"background": float("nan")}, "background nan"),
        (
            pictures(1, 2, 2),
            {"columns": 2**31},
            "a sheet of 2x4294967296 pixels; expected at most 2147483647 a side",
        ),
        (pictures(1, 1, 1), {"rows": 10**30}, "expected at most 2147483647 a side"),
        (pictures(1, 1, 1), {"rows": 2**30, "columns": 2**30}, "1099511627776 in all"),
        (pictures(1, 1, 1), {"padding": 10**30}, "expected at most 2147483647 a side"),
        (np.full((1, 1, 2, 2), np.nan), {}, r"images hold nan at index \(0, 0, 0, 0\)"),
        ([[1], [2, 3]], {}, "images: cannot be made an array"),
        (pictures(0, 2, 2), {}, r"shape \(0, 2, 2\); expected at least one picture"),
        (np.zeros((0, 1, 2, 2), np.float32), {}, "expected at least one picture"),
        (np.zeros((2, 2), np.uint8), {}, r"cannot tile uint8 of shape \(2, 2\)"),
        (np.zeros((2, 2, 2), np.float32), {}, r"cannot tile float32 of shape \(2, 2, 2\)"),
        (np.zeros((2, 2, 2, 3), np.float32), {}, "cannot tile float32"),
        (np.zeros((2, 2, 2), np.int64), {}, "cannot tile int64"),
        (np.zeros((2, 2, 2), bool), {}, "cannot tile bool"),
    ],
)
def test_what_cannot_be_tiled_is_refused(images: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid(images, **options)


def test_a_sheet_that_memory_cannot_hold_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system would promise the memory, and end the process when it is used."""
    monkeypatch.setattr(memory, "memory_left", lambda: 300 << 20)
    assert grid(pictures(4, 8, 12), 2, 2).shape == (16, 24)
    for rows, padding in ((3000, 0), (1400, 1)):  # with padding it takes two arrays
        with pytest.raises(
            ResourceLimitError, match=rf"not enough memory \(a sheet of {rows} rows and 1500 columns"
        ):
            grid(pictures(4, 8, 12), rows, 1500, padding=padding)
