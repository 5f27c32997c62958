"""Images in graphs, pictures for people, and what is taken for either."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vae_runtime import InputError, to_float, to_uint8
from vae_runtime.images import all_finite, as_images, fill_pictures

Array = npt.NDArray[Any]

GRAY, COLOUR = (1, 2, 3), (3, 2, 3)
RAMP = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 1, 2, 3)
RAMP_COLOUR = np.linspace(0, 1, 36, dtype=np.float32).reshape(2, 3, 2, 3)


def test_all_256_values_come_back_unchanged() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    np.testing.assert_array_equal(to_uint8(to_float(values)), values)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)))
def test_gray_pictures_come_back_unchanged(pictures: Array) -> None:
    images = to_float(pictures)
    assert images.shape == (len(pictures), 1, *pictures.shape[1:])
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(to_uint8(images), pictures)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_colour_pictures_come_back_unchanged(pictures: Array) -> None:
    images = to_float(pictures)
    assert images.flags.c_contiguous
    for channel in range(3):
        np.testing.assert_array_equal(images[:, channel], pictures[..., channel] / np.float32(255))
    np.testing.assert_array_equal(to_uint8(images), pictures)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, 0),
        (1.0, 255),
        (0.4999 / 255, 0),
        (0.5001 / 255, 1),
        (127.4 / 255, 127),
        (127.6 / 255, 128),
        (-0.1, 0),
        (1.1, 255),
        (-1e30, 0),
        (1e30, 255),
    ],
)
def test_pixels_are_rounded_to_the_nearest_and_clipped(value: float, expected: int) -> None:
    assert to_uint8(np.full((1, 1, 1, 1), value, np.float32)) == expected


@given(
    levels=hnp.arrays(np.int64, st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.just(2), st.just(3)),
                      elements=st.integers(-2000, 4000)),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", ">f8"]),
)  # fmt: skip
def test_a_pixel_becomes_the_nearest_of_256_levels_the_even_one_of_two(levels: Array, dtype: str) -> None:
    pictures = to_uint8((levels / 1024).astype(dtype))
    arranged = levels[:, 0] if levels.shape[1] == 1 else np.moveaxis(levels, 1, -1)
    for picture, level in zip(pictures.ravel(), arranged.ravel(), strict=True):
        assert picture == min(max(round(Fraction(int(level) * 255, 1024)), 0), 255)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floating_point_types_make_pictures_too(dtype: Any) -> None:
    np.testing.assert_array_equal(to_uint8(RAMP.astype(dtype)), np.rint(RAMP[:, 0].astype(dtype) * 255.0))


def test_pictures_can_be_written_into_an_array_that_is_there() -> None:
    whole = np.zeros((5, 2, 3), np.uint8)
    given_back = to_uint8(RAMP, whole[1:3])
    assert given_back.base is whole
    np.testing.assert_array_equal(whole[1:3], to_uint8(RAMP))
    assert not whole[[0, 3, 4]].any()


def test_the_input_is_left_as_it_was() -> None:
    images = RAMP.copy()
    to_uint8(images)
    np.testing.assert_array_equal(images, RAMP)


PICTURES = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
PICTURES_COLOUR = np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3)


@pytest.mark.parametrize(
    ("given_images", "shape", "expected"),
    [
        (RAMP, GRAY, RAMP),
        (RAMP_COLOUR, COLOUR, RAMP_COLOUR),
        (RAMP.tolist(), GRAY, RAMP),
        (RAMP.astype(np.float64), GRAY, RAMP),
        (RAMP.astype(np.longdouble), GRAY, RAMP),
        (RAMP.astype(np.float16), GRAY, RAMP.astype(np.float16).astype(np.float32)),
        (RAMP.astype(">f4"), GRAY, RAMP),
        (RAMP.astype(">f8"), GRAY, RAMP),
        (np.asfortranarray(RAMP), GRAY, RAMP),
        (np.repeat(RAMP, 2, axis=3)[..., ::2], GRAY, RAMP),
        (RAMP[::-1], GRAY, RAMP[::-1].copy()),
        (RAMP[:0], GRAY, RAMP[:0]),
        (RAMP + np.float32(5e-6), GRAY, RAMP + np.float32(5e-6)),
        (PICTURES, GRAY, PICTURES),
        (PICTURES[..., None], GRAY, PICTURES),
        (PICTURES_COLOUR, COLOUR, PICTURES_COLOUR),
        (PICTURES[:0], GRAY, PICTURES[:0]),
    ],
)
def test_what_is_taken(given_images: Any, shape: tuple[int, int, int], expected: Array) -> None:
    taken = as_images(given_images, shape)
    assert taken.dtype == expected.dtype
    assert taken.dtype.isnative
    assert taken.dtype == np.uint8 or taken.flags.c_contiguous
    np.testing.assert_array_equal(taken, expected)


def test_images_that_are_right_already_are_not_copied() -> None:
    assert as_images(RAMP, GRAY) is RAMP


def holding(value: float) -> Array:
    images = RAMP.copy()
    images[1, 0, 1, 2] = value
    return images


@pytest.mark.parametrize(
    ("given_images", "shape", "message"),
    [
        (RAMP.astype(np.int64), GRAY, r"images of type int64; expected floating point in \[0, 1\] or uint8"),
        (RAMP.astype(np.int8), GRAY, "type int8"),
        (RAMP.astype(np.uint16), GRAY, "type uint16"),
        (RAMP.astype(bool), GRAY, "type bool"),
        (RAMP.astype(complex), GRAY, "type complex128"),
        (RAMP.astype(object), GRAY, "type object"),
        (RAMP.astype(str), GRAY, "type <U"),
        (RAMP.astype("M8[s]"), GRAY, "type datetime64"),
        (None, GRAY, "type object"),
        (RAMP[0], GRAY, r"shape \(1, 2, 3\); expected \(N, 1, 2, 3\); add the batch axis: images\[None\]"),
        (PICTURES[0], GRAY, r"shape \(2, 3\); expected \(N, 2, 3\); add the batch axis: pictures\[None\]"),
        (PICTURES_COLOUR[0], COLOUR, r"expected \(N, 2, 3, 3\); add the batch axis: pictures\[None\]"),
        (RAMP[:, 0], GRAY, r"images of shape \(2, 2, 3\); expected \(N, 1, 2, 3\)$"),
        (RAMP, COLOUR, r"shape \(2, 1, 2, 3\); expected \(N, 3, 2, 3\)"),
        (RAMP_COLOUR, GRAY, r"expected \(N, 1, 2, 3\)"),
        (PICTURES, COLOUR, r"uint8 pictures of shape \(2, 2, 3\); expected \(N, 2, 3, 3\)"),
        (PICTURES_COLOUR, GRAY, r"expected \(N, 2, 3\)"),
        (np.swapaxes(RAMP, 2, 3), GRAY, r"shape \(2, 1, 3, 2\)"),
        (np.float32(0.5), GRAY, r"shape \(\)"),
        (np.uint8(5), GRAY, r"shape \(\)"),
        ([], GRAY, r"shape \(0,\)"),
        ([[0.5], [0.5, 0.5]], GRAY, r"images: cannot be made an array \(.*inhomogeneous"),
        (holding(np.nan), GRAY, r"images hold nan at index \(1, 0, 1, 2\)"),
        (holding(np.inf), GRAY, r"images hold inf at index \(1, 0, 1, 2\)"),
        (holding(-np.inf), GRAY, "images hold -inf"),
        (holding(1).astype(np.float64) * 1e300, GRAY, "images hold inf at index"),
        (RAMP * 255, GRAY, r"range from 0 to 255; expected \[0, 1\] \(divide pixels by 255"),
        (RAMP * 2 - 1, GRAY, "range from -1 to 1"),
        (RAMP + 1e-4, GRAY, "range from 0.0001 to 1.0001"),
    ],
)
def test_what_is_refused(given_images: Any, shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_images(given_images, shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_number_around_every_boundary_is_rounded_as_the_formula_says(channels: int) -> None:
    """All 2,000 float32 on either side of each boundary between two levels, where `round(x * 255)` changes."""
    boundaries = ((np.arange(255) + 0.5) / 255).astype(np.float32).view(np.int32)
    around = (boundaries[:, None] + np.arange(-1000, 1001, dtype=np.int32)).view(np.float32)
    images = np.broadcast_to(around[:, None, :, None], (255, channels, 2001, 1))
    expected = np.rint(np.float32(255) * around).astype(np.uint8)
    assert set(np.unique(expected - np.arange(255, dtype=np.uint8)[:, None])) == {0, 1}
    pictures = to_uint8(images).reshape(255, 2001, channels)
    filled = np.empty((255, 2001, 1) if channels == 1 else (255, 2001, 1, channels), np.uint8)
    fill_pictures(np.ascontiguousarray(images), filled)
    for found in (pictures, filled.reshape(255, 2001, channels)):
        for channel in range(channels):
            np.testing.assert_array_equal(found[..., channel], expected)


@pytest.mark.parametrize("size", [1, 2, 3, 576, 8192, 8193, 20_000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_none_is_found_anywhere_among_any_others(size: int, value: float) -> None:
    """Warnings are errors here: sums of infinities, and squares that are too large, would be told by numpy."""
    for others in (0.0, 1.0, -3e38, np.inf):
        for at in {0, size // 2, size - 1}:
            array = np.full(size, others, np.float32)
            assert all_finite(array) == np.isfinite(others)
            array[at] = value
            assert not all_finite(array)
            assert not all_finite(array[::-1])
