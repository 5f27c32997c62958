"""Packed images come back bit for bit, whatever they show; and faces take little."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vae_training.data.packed_images import pack_images, unpack_images

Array = npt.NDArray[np.uint8]
FACES = Path(__file__).resolve().parents[3] / "data" / "faces24.npz"


def through_a_file(images: Array) -> Array:
    stream = io.BytesIO()
    np.savez(stream, **pack_images(images))
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as packed:
        return unpack_images(packed)


@settings(max_examples=60)
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=7),
        elements=st.one_of(st.integers(0, 255), st.sampled_from([0, 255, 5])),
    )
)
def test_any_images_come_back_as_they_were(images: Array) -> None:
    found = through_a_file(images)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("gray", [0, 7, 255])
def test_images_of_one_gray_come_back_as_they_were(gray: int) -> None:
    images = np.full((3, 5, 4), gray, np.uint8)
    np.testing.assert_array_equal(through_a_file(images), images)


def test_faces_take_less_than_six_tenths_of_what_a_npz_of_them_takes() -> None:
    with np.load(FACES) as whole:
        images = whole["images"]
    packed = pack_images(images)
    np.testing.assert_array_equal(unpack_images(packed), images)
    assert sum(array.nbytes for array in packed.values()) < 0.6 * len(zlib.compress(images.tobytes(), 9))


def test_a_damaged_stream_is_an_error() -> None:
    packed = pack_images(np.arange(60, dtype=np.uint8).reshape(3, 5, 4))
    with pytest.raises(zlib.error):
        unpack_images({**packed, "residuals": packed["residuals"][:-5]})
